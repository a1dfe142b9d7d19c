#pragma once

#include <algorithm>
#include <cstddef>
#include <string>

#include "krul/compress/float_codec.hpp"
#include "krul/restore/as_stored.hpp"
#include "krul/restore/predict.hpp"
#include "krul/strategy/hidden_state_split.hpp"
#include "krul/strategy/strategy.hpp"

namespace krul::strategy {

/// Every layer's input is read and projected; layers before a cut are recomputed instead.
/// @source HCache, arXiv:2410.05004; second-hand
struct Hcache {
  [[nodiscard]] std::string name() const { return "hcache"; }
  [[nodiscard]] Needs needs() const {
    return {.codings = {SavePlan::separate(F16Codec{})}, .costs = true, .hidden_states = true};
  }
  /// The split by layer: which layers are kept as hidden states, and whether the others, the first ones, are recomputed
  /// or kept as K and V. Without costs all are hidden states.
  [[nodiscard]] Result<SavePlan> plan(const Evidence& evidence) const {
    SavePlan plan = SavePlan::separate(F16Codec{}, name());
    const Geometry& geometry = evidence.geometry;
    plan.from_source.assign(geometry.layers, true);
    if (!evidence.costs) return plan;
    const Costs& costs = *evidence.costs;
    const auto tokens = static_cast<double>(evidence.tokens);
    const auto split = best_hidden_state_split(
        {.read_hidden_s = tokens * 2 * static_cast<double>(geometry.hidden) / costs.link.bytes_per_s,
         .read_kv_s = tokens * 4 * static_cast<double>(geometry.kv_values()) / costs.link.bytes_per_s,
         .project_hidden_s = tokens * costs.layer.project_row_s,
         .recompute_s = costs.layer.call_s + tokens * (costs.layer.project_row_s + costs.layer.finish_row_s) +
                        attended_pairs(0, evidence.tokens) * costs.layer.attend_pair_s},
        geometry.layers);
    const std::size_t others = geometry.layers - split.hidden;
    std::fill_n(plan.from_source.begin(), others, false);
    if (!split.others_recompute) return plan;
    plan.left_out.assign(geometry.layers, 0);
    std::fill_n(plan.left_out.begin(), others, evidence.tokens);
    return plan;
  }
  [[nodiscard]] AsStored restore_policy() const { return {}; }
};
static_assert(Strategy<Hcache>);

}  // namespace krul::strategy
