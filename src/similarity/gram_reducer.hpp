#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "../model/lanes.hpp"

namespace krul::detail {

/// Weights of all layers lie together in segments, so that a segment of all layers stays in the second-level cache
/// while every pair of layers is multiplied: [segments, L, segment_values] of bf16.
inline constexpr std::size_t segment_values = 1024;

/// Rows are filled up with zeros to whole units: two vectors of bf16 at most, whole cache lines at least.
inline constexpr std::size_t row_unit = 32;

/// Inner products of the layers' segments, summed in f32 over one run of segments, in double over runs.
class GramReducer {
 public:
  explicit GramReducer(std::size_t layers)
      : layers_(layers), tiles_((layers + tile - 1) / tile), gram_(layers * layers) {
    sums_.resize(tiles_ * (tiles_ + 1) / 2 * tile * tile * lane_count);
  }

  /// @param from    [segments, L, segment_values] bf16, aligned to 64 bytes
  /// @param values  of each layer that are there: all of the segments but the last, which may be shorter; in row_units
  void add(const std::uint16_t* from, std::size_t values) {
    std::fill(sums_.begin(), sums_.end(), 0.0F);
    for (; values > 0; from += layers_ * segment_values) {
      const std::size_t count = std::min(values, segment_values);
      values -= count;
      const std::uint16_t* ahead = values > 0 ? from + layers_ * segment_values : from;
      for_tiles([&](std::size_t i, std::size_t j, float* sums) {
        with_count(layers_ - j, [&]<std::size_t Columns>() {
          const std::uint16_t* const b = from + j * segment_values;
          if (i == j)
            multiply<Columns, Columns, true>(b, b, count, ahead, sums);
          else
            multiply<tile, Columns, false>(from + i * segment_values, b, count, ahead, sums);
        });
        ahead += ahead_lines * segment_values;
      });
    }
    for_tiles([&](std::size_t i, std::size_t j, const float* sums) {
      for (std::size_t a = 0; a < tile && i + a < layers_; ++a)
        for (std::size_t b = i == j ? a : 0; b < tile && j + b < layers_; ++b)
          gram_[(i + a) * layers_ + j + b] += static_cast<double>(sum_of(load(sums + (a * tile + b) * lane_count)));
    });
  }

  /// Adds the squared distances of all that was added, and forgets it.
  /// @param squared  [L, L]
  void collect(std::span<double> squared) {
    for (std::size_t i = 0; i < layers_; ++i)
      for (std::size_t j = i + 1; j < layers_; ++j) {
        const double distance = gram_[i * layers_ + i] + gram_[j * layers_ + j] - 2 * gram_[i * layers_ + j];
        squared[i * layers_ + j] += std::max(distance, 0.0);
        squared[j * layers_ + i] += std::max(distance, 0.0);
      }
    std::fill(gram_.begin(), gram_.end(), 0.0);
  }

 private:
  // Layers a side of a register tile: their sums and operands fill the registers.
  static constexpr std::size_t tile = lane_count == 16 ? 5 : 3;

  /// Calls call.operator()<n>() with n = min(count, tile).
  template <class Call>
  static void with_count(std::size_t count, Call&& call) {
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      ((std::min(count, tile) == I + 1 ? call.template operator()<I + 1>() : void()), ...);
    }
    (std::make_index_sequence<tile>());
  }

  /// call(first layer of the rows, first of the columns, sums [tile, tile, lanes]) for each tile on or above the
  /// diagonal
  template <class Call>
  void for_tiles(Call&& call) {
    float* sums = sums_.data();
    for (std::size_t i = 0; i < layers_; i += tile)
      for (std::size_t j = i; j < layers_; j += tile, sums += tile * tile * lane_count) call(i, j, sums);
  }

#if defined(__AVX512BF16__)
  using Values = __m512bh;
  static constexpr std::size_t value_count = 32;
  static Values load_values(const std::uint16_t* from) {
    __m512i bits = _mm512_load_si512(from);
    return (__m512bh)bits;
  }
  static Lanes dot(Lanes sum, Values a, Values b) {
    return (Lanes)_mm512_dpbf16_ps((__m512)sum, a, b);
  }
#else
  using Values = Lanes;
  static constexpr std::size_t value_count = lane_count;
  static Values load_values(const std::uint16_t* from) {
    return load_as<ElementType::bf16>(reinterpret_cast<const std::byte*>(from));
  }
  static Lanes dot(Lanes sum, Values a, Values b) {
    return sum + a * b;
  }
#endif

  // Cache lines of the next segment that are fetched ahead for each that is multiplied: in memory the layers' parts of
  // a segment are too short for the processor to fetch ahead by itself.
  static constexpr std::size_t ahead_lines = 2;

  /// sums[i, j] += dot products of the rows of a and b; those with i <= j only if Diagonal.
  /// @param ahead  [ahead_lines * count], will be needed soon; may end before that
  template <std::size_t Rows, std::size_t Columns, bool Diagonal>
  static void multiply(const std::uint16_t* a, const std::uint16_t* b, std::size_t count, const std::uint16_t* ahead,
                       float* sums) {
    Lanes sum[Rows][Columns];
    for (std::size_t i = 0; i < Rows; ++i)
      for (std::size_t j = Diagonal ? i : 0; j < Columns; ++j) sum[i][j] = load(sums + (i * tile + j) * lane_count);
    for (std::size_t k = 0; k < count; k += value_count) {
      for (std::size_t line = 0; line < ahead_lines; ++line)
        __builtin_prefetch(ahead + ahead_lines * k + line * 32, 0, 2);
      Values right[Columns];
      for (std::size_t j = 0; j < Columns; ++j) right[j] = load_values(b + j * segment_values + k);
      for (std::size_t i = 0; i < Rows; ++i) {
        const Values left = Diagonal ? right[i] : load_values(a + i * segment_values + k);
        for (std::size_t j = Diagonal ? i : 0; j < Columns; ++j) sum[i][j] = dot(sum[i][j], left, right[j]);
      }
    }
    for (std::size_t i = 0; i < Rows; ++i)
      for (std::size_t j = Diagonal ? i : 0; j < Columns; ++j) store(sum[i][j], sums + (i * tile + j) * lane_count);
  }

  std::size_t layers_;
  std::size_t tiles_;
  std::vector<double> gram_;  // [L, L], on and above the diagonal
  std::vector<float> sums_;   // [tiles on or above the diagonal, tile, tile, lanes]
};

/// Rounds weights to bf16, to nearest even. Past the processor's caches, as nobody reads them soon.
/// @param from  [n]
/// @param to    [count], count >= n in row_units; what has no weight becomes 0; aligned to 64 bytes
inline void pack_weights(std::span<const float> from, std::size_t count, std::uint16_t* to) {
  const auto pack = [](const float* weights, std::uint16_t* at) {
#if defined(__AVX512BF16__)
    const __m512bh packed = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(weights + 16), _mm512_loadu_ps(weights));
    _mm512_stream_si512(reinterpret_cast<__m512i*>(at), (__m512i)packed);
#else
    for (std::size_t k = 0; k < row_unit; k += lane_count) {
      IntLanes bits;
      std::memcpy(&bits, weights + k, sizeof bits);
      const IntLanes rounded = bits + 0x7fff + ((bits >> 16) & 1);  // weights are neither NaN nor negative
      const HalfLanes halves = __builtin_convertvector(rounded >> 16, HalfLanes);
      std::memcpy(at + k, &halves, sizeof halves);
    }
#endif
  };
  std::size_t k = 0;
  for (; k + row_unit <= from.size(); k += row_unit) pack(&from[k], to + k);
  if (k < count) {
    float part[row_unit] = {};
    std::memcpy(part, from.data() + k, (from.size() - k) * sizeof(float));
    pack(part, to + k);
  }
}

/// Makes what pack_weights wrote visible to a thread that is told of it afterwards.
inline void finish_packing() {
#if defined(__AVX512BF16__)
  _mm_sfence();
#endif
}

}  // namespace krul::detail
