#pragma once

#include <cmath>
#include <concepts>
#include <string>
#include <utility>

#include "krul/restore/full_load.hpp"
#include "krul/restore/full_recompute.hpp"
#include "krul/restore/restoration_scheduler.hpp"
#include "krul/strategy/paper_allocation.hpp"
#include "krul/strategy/planned_sizes.hpp"
#include "krul/strategy/selection_policy.hpp"

namespace krul {

/// Turns what was seen of a conversation into the plan of its save: which layers are coded together, and which front of
/// each layer is left out because a restore will recompute it.
///
/// Pure: no input, no output, no clock.
/// @tparam LeftOut  any restore policy: the rows that it would recompute are not stored
template <SelectionPolicy Selection, RestorePolicy LeftOut = BalancedPyramid>
class StrategySelector {
 public:
  /// @param kept_share  of the layers' K and V that remain after sharing; every pair saves one layer
  /// @throws PreconditionError unless 0.5 <= kept_share <= 1
  explicit StrategySelector(Selection selection = Selection(), LeftOut left_out = LeftOut(), double kept_share = 0.75)
      : selection_(std::move(selection)), left_out_(std::move(left_out)), kept_share_(kept_share) {
    static_cast<void>(pairs_for(0, kept_share));
  }

  [[nodiscard]] const Selection& selection() const noexcept { return selection_; }

  /// Pairs that a share of `kept_share` of the bytes asks for: each turns two layers into one.
  /// @throws PreconditionError unless 0.5 <= kept_share <= 1
  /// @source Krul, arXiv:2507.08045, section 6.1: C = c (1 - r_c) N, second-hand; one saved layer a pair: ours
  [[nodiscard]] static std::size_t pairs_for(std::size_t layers, double kept_share = 0.75) {
    expects(kept_share >= 0.5 && kept_share <= 1, "StrategySelector: pairs keep between half and all of the bytes");
    return static_cast<std::size_t>(std::floor((1 - kept_share) * static_cast<double>(layers) + 1e-9));
  }

  /// @param codings  of single layers and of pairs
  /// @return the codings with pairs and fronts; where the front depends on costs and nobody knows them, all is stored
  /// @throws PreconditionError if the pairs share a layer, the codings do not fit them, or the evidence is not valid
  /// @complexity the policies'
  [[nodiscard]] SavePlan select(SavePlan codings, const Evidence& evidence) const {
    SavePlan plan = std::move(codings);
    const std::size_t layers = evidence.geometry.layers;
    plan.pairs = selection_.pairs({.statistics = evidence.statistics,
                                   .layers = layers,
                                   .tokens = evidence.tokens,
                                   .pairs = pairs_for(layers, kept_share_),
                                   .unpredictability = evidence.unpredictability});
    expects_disjoint(plan.pairs, layers);
    for (const LayerPair& pair : plan.pairs)
      plan.settings +=
          (plan.settings.empty() ? "pairs " : " ") + std::to_string(pair.shallow) + "+" + std::to_string(pair.deep);
    if constexpr (std::same_as<LeftOut, FullRecompute>) {
      plan.left_out.assign(layers, evidence.tokens);
    } else if constexpr (!std::same_as<LeftOut, FullLoad>) {
      if (evidence.costs)
        plan.left_out =
            RestorationScheduler<LeftOut>(left_out_).plan(planned_sizes(plan, evidence), *evidence.costs).prefix;
    }
    return plan;
  }

 private:
  [[no_unique_address]] Selection selection_;
  [[no_unique_address]] LeftOut left_out_;
  double kept_share_;
};

}  // namespace krul
