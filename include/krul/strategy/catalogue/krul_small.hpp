#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "krul/compress/int4_codec.hpp"
#include "krul/restore/as_stored.hpp"
#include "krul/restore/predict.hpp"
#include "krul/strategy/catalogue/coded_by_profile.hpp"
#include "krul/strategy/planned_sizes.hpp"

namespace krul::strategy {

/// Fewest bytes: as large a front left out and recomputed as leaves restores twice as fast as recomputing, and as
/// reading two bytes a value.
/// @source ours
class KrulSmall {
 public:
  explicit KrulSmall(std::shared_ptr<const Profile> profile = {})
      : coded_({.name = "krul-small", .without_profile = Int4Codec{}, .step = {3}, .kl = 0.0105}, std::move(profile)) {}

  [[nodiscard]] std::string name() const { return coded_.name(); }
  [[nodiscard]] Needs needs() const {
    Needs needs = coded_.needs();
    needs.block_bytes = needs.costs = true;
    return needs;
  }
  [[nodiscard]] Result<SavePlan> plan(const Evidence& evidence) const {
    auto plan = coded_.plan(evidence);
    if (!plan || !evidence.costs) return plan;
    const std::size_t front = affordable_front(planned_sizes(*plan, evidence), evidence);
    plan->left_out.assign(evidence.geometry.layers, front);
    if (plan->profile) plan->step = step_behind_front(plan->step, front, evidence.tokens);
    return plan;
  }
  [[nodiscard]] AsStored restore_policy() const { return {}; }

  /// How much coarser the rest may be coded where a front is always recomputed, and so exact: with three tenths of the
  /// rows exact the divergence falls to 0.82, about the root of the share that is coded, and 8 codes double it.
  [[nodiscard]] static StepScale step_behind_front(StepScale step, std::size_t front, std::size_t tokens) {
    constexpr double coarsest = coarsest_step.code;
    const double coded = static_cast<double>(tokens - front) / static_cast<double>(tokens);
    const double code = coded > 0 ? step.code + std::floor(-4 * std::log2(coded)) : coarsest;
    return {static_cast<std::int8_t>(std::min(code, std::max<double>(step.code, coarsest)))};
  }

 private:
  /// The longest front, the same in every layer, with which a restore still takes at most a share of what recomputing
  /// all rows takes, and of what reading all of them takes at two bytes a value.
  [[nodiscard]] static std::size_t affordable_front(const RestoreSizes& sizes, const Evidence& evidence) {
    constexpr double share = 0.45;  // so that twice as fast is kept where a prediction is off by a tenth
    const Predictor predictor(sizes, *evidence.costs);
    const auto seconds_with = [&](std::size_t front) {
      return predictor(std::vector<std::size_t>(sizes.layers.size(), front)).first_token_s;
    };
    const double read_s =
        static_cast<double>(evidence.tokens * evidence.geometry.f16_token_bytes()) / evidence.costs->link.bytes_per_s;
    const double limit_s = share * std::min(read_s, seconds_with(sizes.history));
    std::size_t front = 0;
    for (std::size_t next = sizes.block; next <= sizes.history && seconds_with(next) <= limit_s; next += sizes.block)
      front = next;
    return front;
  }

  CodedByProfile coded_;
};
static_assert(Strategy<KrulSmall>);

}  // namespace krul::strategy
