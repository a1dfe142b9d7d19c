#pragma once

#include <cmath>
#include <optional>
#include <string>
#include <utility>

#include "krul/select/paper_allocation.hpp"
#include "krul/select/save_plan.hpp"
#include "krul/select/selection_policy.hpp"

namespace krul {

/// What a save is planned for.
struct SaveRequest {
  std::size_t layers = 0;    ///< L
  std::size_t tokens = 0;    ///< N: length of the conversation
  std::size_t block = 64;    ///< tokens of a stored block
  double kept_share = 0.75;  ///< c: of the layers' K and V that remain after sharing; every pair saves one layer
  ChunkCoding coding{Separate{}, F16Codec{}};       ///< of single layers
  ChunkCoding pair_coding{Separate{}, F16Codec{}};  ///< of pairs
  BlockBytes block_bytes = {};                      ///< what the codings make of one block
  std::optional<Costs> costs =
      {};  ///< of the restore that is planned for: fronts are left out; none: all rows are stored
};

/// Turns what was seen of a conversation into the plan of its save: which layers are coded together, and which front of
/// each layer is left out because a restore will recompute it.
///
/// Pure: no input, no output, no clock.
template <SelectionPolicy Policy>
class StrategySelector {
 public:
  explicit StrategySelector(Policy policy = Policy{}) : policy_(std::move(policy)) {}

  [[nodiscard]] const Policy& policy() const noexcept { return policy_; }

  /// Pairs that a share of `kept_share` of the bytes asks for: each turns two layers into one.
  /// @throws PreconditionError unless 0.5 <= kept_share <= 1
  /// @source Krul, arXiv:2507.08045, section 6.1: C = c (1 - r_c) N, second-hand; one saved layer a pair: ours
  [[nodiscard]] static std::size_t pairs_for(std::size_t layers, double kept_share) {
    expects(kept_share >= 0.5 && kept_share <= 1, "StrategySelector: pairs keep between half and all of the bytes");
    return static_cast<std::size_t>(std::floor((1 - kept_share) * static_cast<double>(layers) + 1e-9));
  }

  /// @throws PreconditionError if the policy's pairs share a layer, or the request is not valid
  [[nodiscard]] SavePlan select(const AttentionStatistics& statistics, const SaveRequest& request) const {
    SavePlan plan;
    plan.coding = request.coding;
    plan.pair_coding = request.pair_coding;
    plan.pairs = policy_.pairs({.statistics = statistics,
                                .layers = request.layers,
                                .tokens = request.tokens,
                                .pairs = pairs_for(request.layers, request.kept_share)});
    expects_disjoint(plan.pairs, request.layers);
    if (request.costs) {
      const RestoreSizes sizes =
          sizes_if_stored(request.tokens, request.block, request.layers, plan.pairs, request.block_bytes);
      plan.left_out = balanced_pyramid(sizes, *request.costs);
    }
    for (const LayerPair& pair : plan.pairs)
      plan.settings +=
          (plan.settings.empty() ? "pairs " : " ") + std::to_string(pair.shallow) + "+" + std::to_string(pair.deep);
    return plan;
  }

 private:
  [[no_unique_address]] Policy policy_;
};

}  // namespace krul
