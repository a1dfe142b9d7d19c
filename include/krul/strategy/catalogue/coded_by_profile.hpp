#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "krul/compress/any_codec.hpp"
#include "krul/compress/int4_codec.hpp"
#include "krul/compress/int8_codec.hpp"
#include "krul/compress/joint/profile.hpp"
#include "krul/restore/full_load.hpp"
#include "krul/strategy/row_classes.hpp"
#include "krul/strategy/strategy.hpp"

namespace krul::strategy {

/// Groups of layers coded together by the model's profile, as coarsely as a wanted divergence allows; without a profile
/// each layer by itself.
class CodedByProfile {
 public:
  struct Settings {
    std::string name;
    AnyRowCodec without_profile = Int8Codec{};
    StepScale step = {};  ///< where a conversation is too short to measure
    double kl = 0;        ///< nats, that the conversation's own step is chosen for; 0: the step stays
    StepScale finest = finest_step, coarsest = coarsest_step;  ///< of the steps that may be chosen
    std::optional<ClassesByAttention> by_attention = {};       ///< which rows are coded more finely; none: the newest
  };

  /// @param profile  of the model; may be none
  CodedByProfile(Settings settings, std::shared_ptr<const Profile> profile)
      : settings_(std::move(settings)), profile_(std::move(profile)) {}

  [[nodiscard]] std::string name() const { return settings_.name; }
  [[nodiscard]] const std::shared_ptr<const Profile>& profile() const noexcept { return profile_; }
  [[nodiscard]] Needs needs() const {
    Needs needs{.codings = {profile_ ? joint() : plain()}, .profile_is_missing = profile_ == nullptr};
    if (profile_ && settings_.by_attention) needs.row_attention = bands_of(*profile_);
    if (profile_ && settings_.kl > 0)
      needs.step = StepChoice{.kl = settings_.kl, .finest = settings_.finest, .coarsest = settings_.coarsest};
    return needs;
  }
  [[nodiscard]] Result<SavePlan> plan(const Evidence& evidence) const {
    if (!profile_) return plain();
    SavePlan plan = joint();
    plan.step = evidence.step.value_or(settings_.step);
    plan.measured_step = evidence.step;
    if (settings_.by_attention) code_by_attention(plan, evidence);
    return plan;
  }
  [[nodiscard]] FullLoad restore_policy() const { return {}; }

  /// Every layer by itself.
  [[nodiscard]] SavePlan plain() const { return SavePlan::separate(settings_.without_profile, settings_.name); }

 private:
  void code_by_attention(SavePlan& plan, const Evidence& evidence) const {
    const RowAttention& seen = evidence.row_attention;
    if (seen.rows > 0) plan.row_attention = std::make_shared<const RowAttention>(seen);
    plan.classes = row_classes(seen, evidence.tokens, *settings_.by_attention);
    if (plan.classes.empty()) return;
    plan.recent.finer = 0;  // the newest rows are those that attention finds; they are coded anew as it leaves them
    const int code = std::min<int>(plan.step.code + settings_.by_attention->codes, settings_.coarsest.code);
    plan.step.code = static_cast<std::int8_t>(std::max<int>(plan.step.code, code));
  }
  [[nodiscard]] SavePlan joint() const { return SavePlan::joint(profile_, settings_.step, settings_.name); }

  Settings settings_;
  std::shared_ptr<const Profile> profile_;
};
static_assert(Strategy<CodedByProfile>);

/// The profile's coding at one step for all conversations, "step-20" for a code of -20: a point of the curve of size
/// and quality. Four bits a value without a profile.
[[nodiscard]] inline CodedByProfile coded_at_step(StepScale step, std::shared_ptr<const Profile> profile) {
  return CodedByProfile({.name = "step" + std::to_string(step.code), .without_profile = Int4Codec{}, .step = step},
                        std::move(profile));
}

}  // namespace krul::strategy
