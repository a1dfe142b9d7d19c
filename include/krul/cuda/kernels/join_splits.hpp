#pragma once

#include <cstddef>
#include <cstdint>

#include "krul/cuda/kernels/attention_rows.hpp"

namespace krul::cuda {

/// The parts of attention's splits, joined in the order of the keys. A warp a row and head.
struct JoinSplits {
  AttentionRows in;
  AttentionResult to;
  KeySplits splits;

  template <KernelBlock Block>
  KRUL_DEVICE void operator()(Block& block) const {
    const std::uint32_t all = in.rows * in.heads, warps = block.threads() / warp_lanes;
    const auto parts = detail::AttentionParts::of(in, to.parts, splits.count);
    for (std::uint32_t at = block.index() * warps + warp_of(block); at < all; at += block.blocks() * warps) {
      float top = -infinity();
      for (std::uint32_t split = 0; split < splits.count; ++split)
        top = larger(top, parts.tops[std::size_t{split} * all + at]);
      const auto factor = [&](std::uint32_t split) {
        return exp2_of(parts.tops[std::size_t{split} * all + at] - detail::finite_top(top));
      };
      float sum = 0;
      for (std::uint32_t split = 0; split < splits.count; ++split)
        sum = fused(factor(split), parts.sums[std::size_t{split} * all + at], sum);
      for (std::uint32_t d = lane_of(block); d < in.dim; d += warp_lanes) {
        float out = 0;
        for (std::uint32_t split = 0; split < splits.count; ++split)
          out = fused(factor(split), parts.out[(std::size_t{split} * all + at) * in.dim + d], out);
        store_value(to.type, out * (1 / sum), to.out, std::size_t{at} * in.dim + d);
      }
      if (lane_of(block) == 0 && to.log_sums != nullptr) to.log_sums[at] = top + log2_of(sum);
    }
  }
};

}  // namespace krul::cuda
