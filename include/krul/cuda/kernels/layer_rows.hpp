#pragma once

#include <cstddef>
#include <cstdint>

#include "krul/core/geometry.hpp"
#include "krul/cuda/kernel_block.hpp"
#include "krul/cuda/kernels/device_bits.hpp"
#include "krul/cuda/kernels/device_math.hpp"

namespace krul::cuda {

/// out = row * weight / sqrt(mean(row^2) + epsilon), rounded to `type`. A block a row. Any finite row will do; where
/// one is not finite, neither is `out`.
/// @complexity one pass over what is read and written, like all here
struct NormRows {
  const float* rows;    ///< [R, width]
  const float* weight;  ///< [width]
  void* out;            ///< [R, width] of `type`
  ElementType type;
  float epsilon;
  std::uint32_t count, width;  ///< R

  /// Shared memory of a block of so many threads.
  [[nodiscard]] static constexpr std::size_t shared_bytes(unsigned threads) noexcept {
    return threads / warp_lanes * sizeof(float);
  }

  template <KernelBlock Block>
  KRUL_DEVICE void operator()(Block& block) const {
    for (std::uint32_t row = block.index(); row < count; row += block.blocks()) {
      const float* const from = rows + std::size_t{row} * width;
      // Squares of large values are not finite though the values are: then they are made smaller first. So small that
      // 2^32 squares have a sum, and the values themselves: the root's inverse may be smaller than any normal number.
      float scale = 1, sum = sum_of_squares(block, from, scale);
      if ((bits_of_float(sum) & 0x7f800000U) == 0x7f800000U) sum = sum_of_squares(block, from, scale = 0x1p-82F);
      const float root = inverse_root(fused(1.0F / static_cast<float>(width), sum, epsilon * scale * scale));
      for (std::uint32_t i = block.thread(); i < width; i += block.threads())
        store_value(type, from[i] * scale * root * weight[i], out, std::size_t{row} * width + i);
    }
  }

 private:
  /// The same in all threads.
  template <KernelBlock Block>
  [[nodiscard]] KRUL_DEVICE float sum_of_squares(Block& block, const float* from, float scale) const {
    float sum = 0;
    for (std::uint32_t i = block.thread(); i < width; i += block.threads()) {
      const float value = from[i] * scale;
      sum = fused(value, value, sum);
    }
    for (unsigned apart = warp_lanes / 2; apart > 0; apart /= 2)
      sum += float_of_bits(block.shuffle(bits_of_float(sum), lane_of(block) ^ apart));
    auto* const of_warps = reinterpret_cast<float*>(block.shared());
    block.sync();
    if (lane_of(block) == 0) of_warps[warp_of(block)] = sum;
    block.sync();
    sum = 0;
    for (unsigned warp = 0; warp < block.threads() / warp_lanes; ++warp) sum += of_warps[warp];
    return sum;
  }
};

/// What project's product gives: biases added, queries and keys turned, keys and values rounded into the cache's rows.
/// A block a row, a thread a pair of values.
struct PlaceRows {
  const float* product;           ///< [R, (H + 2 G) D]: queries, keys, values
  const float* bias;              ///< [(H + 2 G) D]; null: none
  const float* angles;            ///< [R, 2, rotary dimensions / 2] of RotaryTable
  const std::uint32_t* position;  ///< [R]
  const std::uint8_t* written;    ///< [R] whether the row's K and V go to the cache; null: all of them do
  float* queries;                 ///< [R, H, D]
  void *keys, *values;            ///< [capacity, G, D] of `type`; null: no row is written
  ElementType type;
  std::uint32_t count, query_heads, kv_heads, head_dim, rotary_dimensions;
  bool interleaved;  ///< RotaryPairs

  template <KernelBlock Block>
  KRUL_DEVICE void operator()(Block& block) const {
    const std::uint32_t pairs = head_dim / 2, heads = query_heads + 2 * kv_heads;
    for (std::uint32_t row = block.index(); row < count; row += block.blocks()) {
      const bool writes = keys != nullptr && (written == nullptr || written[row] != 0);
      const std::uint32_t here = writes ? heads : query_heads;
      for (std::uint32_t i = block.thread(); i < here * pairs; i += block.threads()) place(row, i / pairs, i % pairs);
    }
  }

 private:
  KRUL_DEVICE void place(std::uint32_t row, std::uint32_t head, std::uint32_t pair) const {
    const std::uint32_t turned = head < query_heads + kv_heads ? rotary_dimensions / 2 : 0;
    // Pairs behind the turned ones are neighbours.
    const std::uint32_t first = pair >= turned || interleaved ? 2 * pair : pair;
    const std::uint32_t second = pair >= turned || interleaved ? first + 1 : pair + turned;
    const std::uint32_t of_head = head * head_dim;
    float x = value(row, of_head + first), y = value(row, of_head + second);
    if (pair < turned) {
      const float* const angle = angles + std::size_t{row} * rotary_dimensions;
      const float cosine = angle[pair], sine = angle[turned + pair], before = x;
      x = fused(-y, sine, before * cosine);
      y = fused(before, sine, y * cosine);
    }
    if (head < query_heads) {
      float* const to = queries + (std::size_t{row} * query_heads + head) * head_dim;
      to[first] = x;
      to[second] = y;
      return;
    }
    const std::uint32_t of_kv = head - query_heads;
    const bool is_key = of_kv < kv_heads;
    const std::size_t at =
        (std::size_t{position[row]} * kv_heads + (is_key ? of_kv : of_kv - kv_heads)) * std::size_t{head_dim};
    store_value(type, x, is_key ? keys : values, at + first);
    store_value(type, y, is_key ? keys : values, at + second);
  }
  [[nodiscard]] KRUL_DEVICE float value(std::uint32_t row, std::uint32_t i) const {
    const std::size_t width = std::size_t{query_heads + 2 * kv_heads} * head_dim;
    const float of_product = product[row * width + i];
    return bias == nullptr ? of_product : of_product + bias[i];
  }
};

/// out = silu(gate) * up, rounded to `type`, with silu(x) = x / (1 + e^-x). A thread a value.
struct ActivateRows {
  const float* product;  ///< [R, 2, width]: gate, up
  void* out;             ///< [R, width] of `type`
  ElementType type;
  std::uint32_t count, width;  ///< R

  template <KernelBlock Block>
  KRUL_DEVICE void operator()(Block& block) const {
    for (std::uint32_t row = block.index(); row < count; row += block.blocks()) {
      const float *const gate = product + std::size_t{row} * 2 * width, *const up = gate + width;
      for (std::uint32_t i = block.thread(); i < width; i += block.threads())
        store_value(type, gate[i] / (1.0F + exponential(-gate[i])) * up[i], out, std::size_t{row} * width + i);
    }
  }
};

/// The rows of a batch that stay, one behind the other. A block a row.
struct KeepRows {
  const std::uint32_t* from;   ///< [R, width] words
  std::uint32_t* to;           ///< [kept, width], elsewhere
  const std::uint32_t* kept;   ///< [kept] which rows
  std::uint32_t count, width;  ///< kept

  template <KernelBlock Block>
  KRUL_DEVICE void operator()(Block& block) const {
    for (std::uint32_t row = block.index(); row < count; row += block.blocks())
      for (std::uint32_t i = block.thread(); i < width; i += block.threads())
        to[std::size_t{row} * width + i] = from[std::size_t{kept[row]} * width + i];
  }
};

}  // namespace krul::cuda
