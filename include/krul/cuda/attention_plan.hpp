#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "krul/core/element_type.hpp"
#include "krul/core/error.hpp"
#include "krul/cuda/kernels/attend_rows.hpp"
#include "krul/cuda/kernels/attend_rows_f32.hpp"
#include "krul/cuda/kernels/attention_weights.hpp"
#include "krul/cuda/kernels/join_splits.hpp"

namespace krul::cuda {

/// What turns q k into log2 of e^(q k / sqrt(D)).
[[nodiscard]] inline float score_scale(std::uint32_t dim) {
  return static_cast<float>(1.4426950408889634 / std::sqrt(static_cast<double>(dim)));
}

/// The sizes of an attention.
struct AttentionShape {
  std::uint32_t rows, heads, kv_heads, dim;  ///< R, H, G, D
  std::uint32_t keys;                        ///< that the last row sees
  ElementType type;                          ///< of the cache
};

/// How attention of some shape runs: one kernel, or two if the keys are split.
struct AttentionPlan {
  KeySplits splits;
  Launch attend;
  Launch join;                  ///< if splits.count > 1
  std::size_t parts_bytes = 0;  ///< of AttentionResult::parts
};

/// Calls use.template operator()<half, dims>() with the least `dims` that has room for a head's values.
/// @throws PreconditionError unless D is a multiple of 8 up to 256 and the type has two bytes
template <class Use>
decltype(auto) with_attention_tile(ElementType half, std::uint32_t dim, Use&& use) {
  expects(dim > 0 && dim % 8 == 0 && dim <= 256 && half != ElementType::f32,
          "attention: heads have a multiple of 8 values up to 256");
  const auto of_type = [&]<ElementType type>() -> decltype(auto) {
    if (dim <= 64) return use.template operator()<type, 64>();
    if (dim <= 96) return use.template operator()<type, 96>();
    if (dim <= 128) return use.template operator()<type, 128>();
    return use.template operator()<type, 256>();
  };
  return half == ElementType::f16 ? of_type.template operator()<ElementType::f16>()
                                  : of_type.template operator()<ElementType::bf16>();
}

/// Keys cut so evenly at multiples of 64 that there are at most `count` splits, and none is empty.
[[nodiscard]] inline KeySplits split_keys(std::uint32_t keys, std::uint32_t count) {
  constexpr std::uint32_t unit = 64;
  const std::uint32_t units = (keys + unit - 1) / unit, each = (units + count - 1) / count;
  const std::uint32_t needed = (units + each - 1) / each;
  return needed <= 1 ? KeySplits{} : KeySplits{needed, each * unit};
}

/// @param splits  as split_keys gives them for the shape's keys
[[nodiscard]] inline AttentionPlan plan_attention(const AttentionShape& shape, const KeySplits& splits) {
  const std::uint32_t pairs = shape.rows * (shape.heads / shape.kv_heads), all = shape.rows * shape.heads;
  AttentionPlan plan;
  plan.splits = splits;
  plan.attend = shape.type == ElementType::f32
                    ? AttendRowsF32::launch(shape.rows, shape.heads, splits)
                    : with_attention_tile(shape.type, shape.dim, [&]<ElementType half, unsigned dims>() {
                        return AttendRows<half, dims>::launch(pairs, shape.kv_heads, splits);
                      });
  if (splits.count > 1) {
    constexpr unsigned warps = 4;
    plan.join = {.blocks = (all + warps - 1) / warps, .threads = warps * warp_lanes};
    plan.parts_bytes = std::size_t{splits.count} * all * (shape.dim + 2) * sizeof(float);
  }
  return plan;
}

/// Splits keys only if there are fewer blocks than multiprocessors, and then so that each gets about two, of no less
/// than 256 keys.
/// @throws PreconditionError unless all sizes are above 0, H a multiple of G, and D one of 8 up to 256
[[nodiscard]] inline AttentionPlan plan_attention(const AttentionShape& shape, std::uint32_t multiprocessors) {
  expects(shape.rows > 0 && shape.heads > 0 && shape.kv_heads > 0 && shape.heads % shape.kv_heads == 0 &&
              shape.keys > 0 && multiprocessors > 0 && shape.dim > 0 && shape.dim % 8 == 0 && shape.dim <= 256,
          "attention: sizes that do not fit together");
  constexpr std::uint32_t least_keys = 256;
  const std::uint32_t blocks = plan_attention(shape, KeySplits{}).attend.blocks;
  if (blocks >= multiprocessors) return plan_attention(shape, KeySplits{});
  const std::uint32_t wanted = (2 * multiprocessors + blocks - 1) / blocks,
                      most = (shape.keys + least_keys - 1) / least_keys;
  return plan_attention(shape, split_keys(shape.keys, std::min(wanted, most)));
}

/// Calls launch(kernel, Launch) for each kernel of an attention, in this order.
template <class Run>
void attend(const AttentionRows& in, ElementType type, const AttentionResult& to, const AttentionPlan& plan,
            Run&& launch) {
  if (type == ElementType::f32)
    launch(AttendRowsF32{in, to, plan.splits}, plan.attend);
  else
    with_attention_tile(type, in.dim, [&]<ElementType half, unsigned dims>() {
      launch(AttendRows<half, dims>{in, to, plan.splits}, plan.attend);
    });
  if (plan.splits.count > 1) launch(JoinSplits{in, to, plan.splits}, plan.join);
}

/// Calls launch(kernel, Launch) for the kernel that gives weights of some rows, after their attention.
template <class Run>
void attention_weights(const AttentionRows& in, ElementType type, const WantedWeights& wanted, Run&& launch) {
  const auto run = [&](const auto& kernel) { launch(kernel, kernel.launch()); };
  if (type == ElementType::f32)
    run(AttentionWeightsF32{in, wanted});
  else
    with_attention_tile(type, in.dim, [&]<ElementType half, unsigned dims>() {
      run(AttentionWeights<half, dims>{in, wanted});
    });
}

}  // namespace krul::cuda
