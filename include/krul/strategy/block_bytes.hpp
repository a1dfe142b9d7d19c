#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "krul/backend/model_backend.hpp"
#include "krul/backend/owned_kv_rows.hpp"
#include "krul/compress/joint_transform.hpp"
#include "krul/compress/token_features.hpp"
#include "krul/strategy/paper_allocation.hpp"
#include "krul/strategy/save_plan.hpp"

namespace krul {

/// What a plan's codings make of a block, tried on the last rows of a cache: merged chunks have no fixed length.
/// @param block   tokens, no more than the cache holds
/// @return        of single layers and pairs; without pairs, a pair's bytes are those of two layers
/// @throws PreconditionError if the cache holds fewer tokens, or the plan's pairs do not fit its geometry;
///         NotFiniteError if a row is not finite
template <KvCache Cache>
[[nodiscard]] BlockBytes measure_block_bytes(const Cache& cache, const Geometry& geometry, const SavePlan& plan,
                                             std::size_t block) {
  expects(block > 0 && cache.length() >= block, "measure_block_bytes: the cache holds no whole block");
  const TokenRange tokens{cache.length() - block, cache.length()};
  const BlockContext context{static_cast<Position>(tokens.begin), {}};
  const std::size_t middle = geometry.layers / 2, next = std::min(middle + 1, geometry.layers - 1);
  const OwnedKvRows rows[] = {read_finite_kv_rows(cache, geometry, middle, tokens),
                              read_finite_kv_rows(cache, geometry, next, tokens)};
  const KvRows group[] = {rows[0].view(), rows[1].view()};
  BlockBytes measured{.single = plan.coding.encode(geometry, std::span(group).first(1), context).size(), .pair = 0};
  measured.pair =
      plan.pair_coding.layers() == 2 ? plan.pair_coding.encode(geometry, group, context).size() : 2 * measured.single;
  return measured;
}

/// A block in the middle of so many tokens.
[[nodiscard]] constexpr TokenRange middle_block(std::size_t tokens, std::size_t block) noexcept {
  const std::size_t begin = tokens / 2 / block * block;
  return {begin, begin + block};
}

/// What a plan with a profile makes of a block, group by group, once as recent rows and once as others. With classes
/// these are the last block and one in the middle, else the last tokens both times.
/// @param features  of the cache's tokens from the first of these on, if the profile asks for them
/// @throws PreconditionError as measure_block_bytes, and as JointTransform::encode
template <KvCache Cache>
[[nodiscard]] BlockBytes measure_group_bytes(const Cache& cache, const Geometry& geometry, const SavePlan& plan,
                                             std::size_t block, const TokenFeatures& features) {
  expects(block > 0 && cache.length() >= block && plan.profile, "measure_group_bytes: needs a block and a profile");
  const TokenRange last{cache.length() - block, cache.length()};
  const TokenRange other = plan.classes.empty() ? last : middle_block(cache.length(), block);
  const auto& groups = plan.profile->data().groups;
  BlockBytes measured;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const auto bytes_at = [&](StepScale step, TokenRange tokens) {
      std::vector<OwnedKvRows> rows;
      for (std::size_t layer = 0; layer < groups[i].layers; ++layer)
        rows.push_back(read_finite_kv_rows(cache, geometry, groups[i].first_layer + layer, tokens));
      const BlockContext context{static_cast<Position>(tokens.begin), features.of(tokens),
                                 plan.classes_of(groups[i].first_layer, tokens, cache.length())};
      return JointTransform(plan.profile, i, step).encode(geometry, views_of(rows), context).size();
    };
    measured.groups.push_back(bytes_at(plan.step, other));
    measured.recent_groups.push_back(bytes_at(plan.recent.step(plan.step), last));
  }
  return measured;
}

}  // namespace krul
