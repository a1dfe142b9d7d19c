#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "krul/restore/predict.hpp"
#include "krul/restore/read_requests.hpp"
#include "krul/strategy/evidence.hpp"
#include "krul/strategy/paper_allocation.hpp"
#include "krul/strategy/save_plan.hpp"

namespace krul {

/// What a planner has to know of a conversation that a plan is about to save, if everything were stored.
/// @throws PreconditionError if the plan has a profile and the bytes of its groups are missing
[[nodiscard]] inline RestoreSizes planned_sizes(const SavePlan& plan, const Evidence& evidence) {
  RestoreSizes sizes =
      sizes_if_stored(evidence.tokens, evidence.block, evidence.geometry.layers, plan.pairs, evidence.block_bytes);
  sizes.prompt = evidence.prompt;
  for (std::size_t layer = 0; layer < plan.from_source.size(); ++layer)
    if (plan.from_source[layer]) {
      sizes.layers[layer].projected_share = 1;
      for (std::size_t block = 0; block < sizes.blocks(); ++block)
        sizes.layers[layer].block_bytes[block] = std::min(sizes.block, sizes.history - block * sizes.block) *
                                                 evidence.geometry.hidden * size_of(ElementType::f16);
    }
  if (!plan.profile) return sizes;
  const auto& groups = plan.profile->data().groups;
  const BlockBytes& bytes = evidence.block_bytes;
  expects(bytes.groups.size() == groups.size() && bytes.recent_groups.size() == groups.size(),
          "planned_sizes: the bytes of each group are missing");
  for (std::size_t i = 0; i < groups.size(); ++i)
    for (std::size_t layer = groups[i].first_layer; layer < groups[i].first_layer + groups[i].layers; ++layer) {
      for (std::size_t block = 0; block < sizes.blocks(); ++block) {
        const std::size_t end = std::min((block + 1) * sizes.block, sizes.history);
        sizes.layers[layer].block_bytes[block] =
            plan.recent.include(end, sizes.history) ? bytes.recent_groups[i] : bytes.groups[i];
      }
      sizes.layers[layer].joint_share = 1;
      sizes.layers[layer].most_bytes = largest_group_request;
      sizes.layers[layer].group_layers = groups[i].layers;
      sizes.layers[layer].group_index = layer - groups[i].first_layer;
      if (layer > groups[i].first_layer)
        sizes.layers[layer].shared_with.assign(sizes.blocks(), static_cast<std::int32_t>(layer - 1));
    }
  return sizes;
}

/// Bytes that a plan stores of K and V, by the evidence that it was made from.
/// @throws PreconditionError if a size is not valid
[[nodiscard]] inline std::uint64_t planned_bytes(const SavePlan& plan, const Evidence& evidence) {
  const RestoreSizes sizes = planned_sizes(plan, evidence);
  const Costs any;
  const std::vector<std::size_t> all_stored(evidence.geometry.layers, 0);
  return Predictor(sizes, any)(plan.left_out.empty() ? all_stored : plan.left_out).bytes;
}

}  // namespace krul
