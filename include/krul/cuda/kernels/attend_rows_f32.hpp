#pragma once

#include <cstddef>
#include <cstdint>

#include "krul/cuda/device_api.hpp"
#include "krul/cuda/kernels/attention_rows.hpp"

namespace krul::cuda {

/// AttendRows over a cache of f32, where nothing is rounded but sums and products: a warp a row, head and split, a lane
/// a key for scores and a lane every 32nd value for outputs. It reads all keys for each head. A value that is not
/// finite shows in its column only.
struct AttendRowsF32 {
  AttentionRows in;
  AttentionResult to;
  KeySplits splits;

  static constexpr unsigned warps = 4, most_values = 256 / warp_lanes;

  [[nodiscard]] static Launch launch(std::uint32_t rows, std::uint32_t heads, const KeySplits& splits) {
    return {.blocks = (rows * heads * splits.count + warps - 1) / warps, .threads = warps * warp_lanes};
  }

  template <KernelBlock Block>
  KRUL_DEVICE void operator()(Block& block) const {
    const std::uint32_t unit = block.index() * warps + warp_of(block), all = in.rows * in.heads;
    if (unit >= all * splits.count) return;
    const std::uint32_t at = unit % all, split = unit / all, seen = in.positions[at / in.heads] + 1;
    const std::uint32_t begin = split * splits.keys;
    const std::uint32_t end = detail::smaller(seen, splits.end(split));
    const std::uint32_t kv_head = at % in.heads / (in.heads / in.kv_heads);
    const float* const query = in.queries + std::size_t{at} * in.dim;
    const auto* const keys = static_cast<const float*>(in.keys);
    const auto* const values = static_cast<const float*>(in.values);
    float top = -infinity(), sum = 0, out[most_values] = {};
    for (std::uint32_t first = begin; first < end; first += warp_lanes) {
      const std::uint32_t key = first + lane_of(block);
      float score = -infinity();
      if (key < end) {
        const float* const row = keys + (std::size_t{key} * in.kv_heads + kv_head) * in.dim;
        score = detail::seen_score(detail::scaled_product(in, query, row));
      }
      float largest = larger(top, score);
      for (unsigned apart = 1; apart < warp_lanes; apart *= 2) largest = larger(largest, other(block, largest, apart));
      const float factor = exp2_of(top - detail::finite_top(largest));
      const float weight = exp2_of(score - detail::finite_top(largest));
      top = largest;
      sum = fused(sum, factor, weight);
      KRUL_UNROLL
      for (float& each : out) each *= factor;
      const std::uint32_t count = detail::smaller(end - first, warp_lanes);
      for (std::uint32_t i = 0; i < count; ++i) {
        const float given = float_of_bits(block.shuffle(bits_of_float(weight), i));
        const float* const row = values + (std::size_t{first + i} * in.kv_heads + kv_head) * in.dim;
        KRUL_UNROLL
        for (unsigned j = 0; j < most_values; ++j)
          if (const unsigned d = lane_of(block) + warp_lanes * j; d < in.dim) out[j] = fused(given, row[d], out[j]);
      }
    }
    for (unsigned apart = 1; apart < warp_lanes; apart *= 2) sum += other(block, sum, apart);
    store(block, unit, {top, sum}, out);
  }

 private:
  struct Sums {
    float top, sum;
  };

  template <KernelBlock Block>
  [[nodiscard]] static KRUL_DEVICE float other(Block& block, float value, unsigned apart) {
    return float_of_bits(block.shuffle(bits_of_float(value), lane_of(block) ^ apart));
  }

  /// @param at  in [S, R * H]
  template <KernelBlock Block>
  KRUL_DEVICE void store(Block& block, std::uint32_t at, const Sums& sums, const float (&out)[most_values]) const {
    const bool whole = splits.count == 1;
    const auto parts = detail::AttentionParts::of(in, to.parts, splits.count);
    const float factor = whole ? 1 / sums.sum : 1.0F;
    KRUL_UNROLL
    for (unsigned j = 0; j < most_values; ++j)
      if (const unsigned d = lane_of(block) + warp_lanes * j; d < in.dim)
        store_value(whole ? to.type : ElementType::f32, out[j] * factor, whole ? to.out : parts.out,
                    std::size_t{at} * in.dim + d);
    if (lane_of(block) != 0) return;
    if (!whole) {
      parts.tops[at] = sums.top;
      parts.sums[at] = sums.sum;
    } else if (to.log_sums != nullptr) {
      to.log_sums[at] = sums.top + log2_of(sums.sum);
    }
  }
};

}  // namespace krul::cuda
