#pragma once

#include <memory>
#include <string>
#include <utility>

#include "krul/restore/cautious.hpp"
#include "krul/restore/predict.hpp"
#include "krul/restore/restoration_scheduler.hpp"
#include "krul/strategy/catalogue/coded_by_profile.hpp"
#include "krul/strategy/planned_sizes.hpp"

namespace krul::strategy {

/// The default: krul-codec's coding (one byte a value without a profile, or where the link is so fast that it is
/// sooner), every row stored, the fronts that are fastest for the link.
/// @source ours
class Krul {
 public:
  /// @param profile  of the model; may be none
  explicit Krul(std::shared_ptr<const Profile> profile = {})
      : coded_({.name = "krul", .without_profile = Int8Codec{}, .step = {-13}, .kl = 0.0024}, std::move(profile)) {}

  [[nodiscard]] std::string name() const { return coded_.name(); }
  [[nodiscard]] Needs needs() const {
    Needs needs = coded_.needs();
    if (coded_.profile()) needs.codings.push_back(coded_.plain());
    needs.block_bytes = needs.costs = true;
    return needs;
  }
  [[nodiscard]] Result<SavePlan> plan(const Evidence& evidence) const {
    auto plan = coded_.plan(evidence);
    if (!plan || !plan->profile || !evidence.costs) return plan;
    SavePlan plain = coded_.plain();
    plain.measured_step = plan->measured_step;
    return is_sooner(plain, *plan, evidence) ? plain : plan;
  }
  [[nodiscard]] DefaultPolicy restore_policy() const { return {}; }

 private:
  /// Whether rows by themselves bring the first token sooner than rows coded by the profile: where the link is fast,
  /// decoding takes longer than reading. They take several times the bytes, so equally soon is not enough.
  [[nodiscard]] static bool is_sooner(const SavePlan& plain, const SavePlan& joint, const Evidence& evidence) {
    constexpr double worth = 0.95;
    const auto seconds = [&](const SavePlan& plan) {
      const RestoreSizes sizes = planned_sizes(plan, evidence);
      const RestorePlan restore = RestorationScheduler<DefaultPolicy>().plan(sizes, *evidence.costs);
      return predict(restore, sizes, *evidence.costs).first_token_s;
    };
    return seconds(plain) < worth * seconds(joint);
  }

  CodedByProfile coded_;
};
static_assert(Strategy<Krul>);

/// The default strategy.
/// @param profile  of the model; may be none
[[nodiscard]] inline Krul krul(std::shared_ptr<const Profile> profile = {}) {
  return Krul(std::move(profile));
}

}  // namespace krul::strategy
