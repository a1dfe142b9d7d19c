#pragma once

#include <cstddef>
#include <cstdint>

#include "krul/cuda/kernel_block.hpp"
#include "krul/cuda/kernels/device_bits.hpp"
#include "krul/cuda/kernels/row_places.hpp"
#include "krul/cuda/kernels/signed_panels.hpp"

namespace krul::cuda {

/// Rows of a block whose symbols share their tables and columns, as a device reads them.
struct JointRun {
  std::uint32_t first, count;     ///< places of its rows
  std::uint32_t columns, wide;    ///< leading columns that count, and how many of them are wide
  const std::int32_t* symbol_of;  ///< [columns] which column of symbols is this one's; -1: it is only predicted
  const std::int16_t* symbols;    ///< [coded columns, count]
};

/// What brings K, or V, of one chunk of a group of layers back: the tensor, the chunk, and room for what is between.
struct JointSide {
  // The profile's tensor.
  const float* scales;             ///< [narrow columns]
  const float* prediction_scales;  ///< [columns]
  const float* wide_synthesis;     ///< [wide columns, n]
  SignedPanels synthesis;          ///< [narrow columns, n]; the mean is its offset
  std::uint32_t values;            ///< n: layers * G * D
  // The chunk.
  const JointRun* runs;
  std::uint32_t run_count, rows;  ///< rows: T
  const std::uint32_t* run_of;    ///< [T] of each place
  const float* steps;             ///< [T] of each place
  const float* predicted;         ///< [U, predicted_stride]; null: nothing is predicted
  std::uint32_t predicted_stride;
  const std::uint32_t* predicted_of;  ///< [T] its row for each place
  // Room.
  float* wide_values;   ///< [T, wide_stride]
  float* coefficients;  ///< [T, narrow_stride]
  std::uint32_t wide_stride, narrow_stride;
  std::uint32_t* words;  ///< [T, narrow_stride / 4] the coefficients in int8
  float* row_scales;     ///< [T]
  float* decoded;        ///< [T, n]
};

/// Symbols to coefficients: scale * (step * symbol + prediction), and zeros for what a row does not have. A thread a
/// coefficient, a block a row. The bits of the processor's loops, like all here.
struct DequantiseRows {
  JointSide side;

  template <KernelBlock Block>
  KRUL_DEVICE void operator()(Block& block) const {
    for (std::uint32_t place = block.index(); place < side.rows; place += block.blocks()) {
      const JointRun& run = side.runs[side.run_of[place]];
      const float* const predicted =
          side.predicted == nullptr ? nullptr
                                    : side.predicted + std::size_t{side.predicted_of[place]} * side.predicted_stride;
      for (std::uint32_t i = block.thread(); i < side.wide_stride; i += block.threads())
        side.wide_values[std::size_t{place} * side.wide_stride + i] =
            i < run.wide ? value(run, place, i, predicted) : 0.0F;
      for (std::uint32_t i = block.thread(); i < side.narrow_stride; i += block.threads())
        side.coefficients[std::size_t{place} * side.narrow_stride + i] =
            run.wide + i < run.columns ? side.scales[i] * value(run, place, run.wide + i, predicted) : 0.0F;
    }
  }

 private:
  [[nodiscard]] KRUL_DEVICE float value(const JointRun& run, std::uint32_t place, std::uint32_t column,
                                        const float* predicted) const {
    constexpr float outward = 0.05F;  // what rounding to zero takes from the size of values on the whole
    float symbol = 0;
    if (run.symbol_of[column] >= 0)
      symbol = static_cast<float>(
          run.symbols[static_cast<std::size_t>(run.symbol_of[column]) * run.count + (place - run.first)]);
    if (symbol != 0) symbol += symbol > 0 ? outward : -outward;
    const float expected = predicted == nullptr ? 0.0F : side.prediction_scales[column] * predicted[column];
    return fused(side.steps[place], symbol, expected);
  }
};

/// Narrow coefficients to 127 steps of each row's largest magnitude. A warp a row.
struct RoundRows {
  JointSide side;

  template <KernelBlock Block>
  KRUL_DEVICE void operator()(Block& block) const {
    const unsigned warps = block.threads() / warp_lanes;
    for (std::uint32_t place = block.index() * warps + warp_of(block); place < side.rows;
         place += block.blocks() * warps) {
      const float* const from = side.coefficients + std::size_t{place} * side.narrow_stride;
      // Magnitudes compare like their bits.
      std::uint32_t largest_bits = 0;
      for (std::uint32_t i = lane_of(block); i < side.narrow_stride; i += warp_lanes) {
        const std::uint32_t bits = bits_of_float(from[i]) & 0x7fffffffU;
        largest_bits = bits > largest_bits ? bits : largest_bits;
      }
      for (unsigned apart = warp_lanes / 2; apart > 0; apart /= 2) {
        const std::uint32_t other = block.shuffle(largest_bits, (lane_of(block) + apart) % warp_lanes);
        largest_bits = other > largest_bits ? other : largest_bits;
      }
      const float largest = float_of_bits(largest_bits);
      const bool empty = largest < 1e-30F;
      const float per_step = empty ? 0.0F : 127 / largest;
      if (lane_of(block) == 0) side.row_scales[place] = empty ? 0.0F : largest / 127;
      const std::uint32_t quads = side.narrow_stride / 4;
      for (std::uint32_t quad = lane_of(block); quad < quads; quad += warp_lanes) {
        std::uint32_t word = 0;
        for (std::uint32_t i = 0; i < 4; ++i)
          word |= (static_cast<std::uint32_t>(nearest_whole(from[4 * quad + i] * per_step)) & 0xffU) << 8 * i;
        side.words[std::size_t{place} * quads + quad] = word;
      }
    }
  }
};

/// decoded = coefficients * synthesis + wide values * wide synthesis. A thread a value, a block a row.
/// @complexity 2 n (narrow columns) byte operations and 2 n (wide columns) of floats a row
struct SynthesiseRows {
  JointSide side;

  template <KernelBlock Block>
  KRUL_DEVICE void operator()(Block& block) const {
    const std::uint32_t quads_apart = side.narrow_stride / 4;
    for (std::uint32_t place = block.index(); place < side.rows; place += block.blocks()) {
      const JointRun& run = side.runs[side.run_of[place]];
      const std::uint32_t quads = (run.columns - run.wide + 3) / 4;
      const std::uint32_t* const words = side.words + std::size_t{place} * quads_apart;
      const float* const wide = side.wide_values + std::size_t{place} * side.wide_stride;
      const std::uint32_t most_wide = side.runs[0].wide;
      for (std::uint32_t i = block.thread(); i < side.values; i += block.threads()) {
        const float narrow = product_at({words, side.row_scales[place], quads}, side.synthesis, i);
        float sum = 0;
        for (std::uint32_t k = 0; k < most_wide; ++k)
          sum = fused(wide[k], side.wide_synthesis[std::size_t{k} * side.values + i], sum);
        side.decoded[std::size_t{place} * side.values + i] = narrow + sum;
      }
    }
  }
};

/// Decoded rows to the cache's rows of each layer, keys with the rotary embedding. A block a row.
struct StoreRows {
  JointSide side;
  ElementType type;                  ///< of the cache
  std::uint32_t width, dim, layers;  ///< G * D, D
  std::byte* const* to;              ///< [layers] where the cache's keys, or values, begin
  RowPlaces places;                  ///< of the chunk's rows there
  const std::uint32_t* tokens;       ///< [T] which row of the chunk each place is
  const float *cosines, *sines;      ///< [rows of the chunk, half]; null: values, which are not turned
  std::uint32_t half;                ///< pairs that are turned
  bool interleaved;                  ///< whether a pair's values are neighbours
  std::uint32_t* not_finite;         ///< becomes 1 if a value is not finite once it is stored

  template <KernelBlock Block>
  KRUL_DEVICE void operator()(Block& block) const {
    bool finite = true;
    for (std::uint32_t place = block.index(); place < side.rows; place += block.blocks()) {
      const std::uint32_t token = tokens[place];
      const float* const row = side.decoded + std::size_t{place} * side.values;
      const std::size_t row_at = places.row(token);
      for (std::uint32_t i = block.thread(); i < side.values; i += block.threads()) {
        const auto byte = i % width * static_cast<std::uint32_t>(size_of(type));
        std::byte* const at = to[i / width] + row_at + places.in_row(byte);
        store_value(type, cosines == nullptr ? row[i] : turned(row, i, token), at, 0);
        finite = finite && is_finite(load_value(type, at, 0));
      }
    }
    if (!finite) *not_finite = 1;  // whoever finds it writes the same
  }

 private:
  [[nodiscard]] KRUL_DEVICE float turned(const float* row, std::uint32_t i, std::uint32_t token) const {
    const std::uint32_t at = i % dim;
    if (at >= 2 * half) return row[i];
    const bool first = interleaved ? at % 2 == 0 : at < half;
    const std::uint32_t pair = interleaved ? at / 2 : at % half, apart = interleaved ? 1 : half;
    const float cosine = cosines[std::size_t{token} * half + pair], sine = sines[std::size_t{token} * half + pair];
    return first ? row[i] * cosine - row[i + apart] * sine : row[i] * cosine + row[i - apart] * sine;
  }
};

}  // namespace krul::cuda
