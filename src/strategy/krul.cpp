#include "krul/strategy/catalogue/krul.hpp"

#include "krul/restore/predict.hpp"
#include "krul/strategy/planned_sizes.hpp"

namespace krul::strategy {
namespace {

/// Whether rows by themselves bring the first token sooner than rows coded by the profile: where the link is fast,
/// decoding takes longer than reading. They take several times the bytes, so equally soon is not enough.
bool is_sooner(const SavePlan& plain, const SavePlan& joint, const Evidence& evidence) {
  constexpr double worth = 0.95;
  const auto seconds = [&](const SavePlan& plan) {
    const RestoreSizes sizes = planned_sizes(plan, evidence);
    const RestorePlan restore = RestorationScheduler<DefaultPolicy>().plan(sizes, *evidence.costs);
    return predict(restore, sizes, *evidence.costs).first_token_s;
  };
  return seconds(plain) < worth * seconds(joint);
}

}  // namespace

Needs Krul::needs() const {
  Needs needs = coded_.needs();
  if (coded_.profile()) needs.codings.push_back(coded_.plain());
  needs.block_bytes = needs.costs = true;
  return needs;
}

Result<SavePlan> Krul::plan(const Evidence& evidence) const {
  auto plan = coded_.plan(evidence);
  if (!plan || !plan->profile || !evidence.costs) return plan;
  SavePlan plain = coded_.plain();
  plain.measured_step = plan->measured_step;
  plain.settings = "over this link it is predicted to be sooner; krul-codec always uses the profile";
  return is_sooner(plain, *plan, evidence) ? plain : plan;
}

}  // namespace krul::strategy
