#pragma once

#include <array>
#include <charconv>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
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
    StepScale finest = finest_step, coarsest = coarsest_step;               ///< of the steps that may be chosen
    std::optional<ClassesByAttention> by_attention = ClassesByAttention{};  ///< which rows are finer; none: `recent`
    bool foresight = false;                                                 ///< by the attention that is yet to come
    RecentRows recent = {};                                                 ///< where attention tells nothing
  };

  /// @param profile  of the model; may be none
  CodedByProfile(Settings settings, std::shared_ptr<const Profile> profile)
      : settings_(std::move(settings)), profile_(std::move(profile)) {}

  [[nodiscard]] std::string name() const { return settings_.name; }
  [[nodiscard]] const std::shared_ptr<const Profile>& profile() const noexcept { return profile_; }
  [[nodiscard]] Needs needs() const {
    Needs needs{.codings = {profile_ ? joint() : plain()}, .profile_is_missing = profile_ == nullptr};
    if (profile_ && settings_.by_attention) {
      needs.row_attention = bands_of(*profile_);
      needs.classes = settings_.by_attention;
      needs.coming_attention = settings_.foresight;
    }
    if (profile_ && settings_.kl > 0)
      needs.step = StepChoice{.kl = settings_.kl, .finest = settings_.finest, .coarsest = settings_.coarsest};
    return needs;
  }
  [[nodiscard]] Result<SavePlan> plan(const Evidence& evidence) const {
    if (!profile_) return plain();
    SavePlan plan = joint();
    plan.step = evidence.step.value_or(settings_.step);
    plan.measured_step = evidence.step;
    const RowAttention& seen = evidence.row_attention;
    if (!settings_.by_attention || seen.rows == 0) return plan;
    expects(evidence.history.size() == evidence.tokens, "Evidence: the tokens of rows that are coded by attention");
    plan.row_attention = std::make_shared<const RowAttention>(seen);
    code_by_attention(plan, evidence.attended_rows(), *settings_.by_attention);
    return plan;
  }
  [[nodiscard]] FullLoad restore_policy() const { return {}; }

  /// Every layer by itself.
  [[nodiscard]] SavePlan plain() const { return SavePlan::separate(settings_.without_profile, settings_.name); }

 private:
  [[nodiscard]] SavePlan joint() const {
    SavePlan plan = SavePlan::joint(profile_, settings_.step, settings_.name);
    plan.recent = settings_.recent;
    return plan;
  }

  Settings settings_;
  std::shared_ptr<const Profile> profile_;
};
static_assert(Strategy<CodedByProfile>);

/// Which rows are coded more finely than others, for comparisons.
enum class FinerRows : std::uint8_t { attended, newest, both, none, oracle };
inline constexpr std::array all_finer_rows{FinerRows::attended, FinerRows::newest, FinerRows::both, FinerRows::none,
                                           FinerRows::oracle};

[[nodiscard]] constexpr std::string_view name_of(FinerRows finer) noexcept {
  return std::array{"attended", "newest", "both", "none", "oracle"}[static_cast<std::size_t>(finer)];
}

/// The profile's coding at one step for all conversations, "step-20" for a code of -20, "step-20-newest" where not the
/// attended rows are finer: a point of the curve of size and quality. Four bits a value without a profile.
[[nodiscard]] inline CodedByProfile coded_at_step(StepScale step, std::shared_ptr<const Profile> profile,
                                                  FinerRows finer = FinerRows::attended) {
  CodedByProfile::Settings settings{
      .name = "step" + std::to_string(step.code), .without_profile = Int4Codec{}, .step = step};
  if (finer != FinerRows::attended) settings.name += "-" + std::string(name_of(finer));
  settings.by_attention = ClassesByAttention{.codes = 0, .newest_too = finer == FinerRows::both};
  settings.foresight = finer == FinerRows::oracle;
  if (settings.foresight) settings.by_attention->coarsest_surprising = settings.by_attention->coarsest;
  if (finer == FinerRows::newest || finer == FinerRows::none) settings.by_attention.reset();
  if (finer == FinerRows::none) settings.recent.count = 0;
  return CodedByProfile(std::move(settings), std::move(profile));
}

/// The profile's coding at the step that is measured for each conversation, "kl0.008" for a KL of 0.008 nats that rows
/// which are all alike would have. Four bits a value without a profile.
[[nodiscard]] inline CodedByProfile coded_for(double kl, std::shared_ptr<const Profile> profile) {
  char digits[32];
  const char* const end = std::to_chars(digits, digits + sizeof digits, kl).ptr;
  return {{.name = "kl" + std::string(digits, static_cast<std::size_t>(end - digits)),
           .without_profile = Int4Codec{},
           .kl = kl},
          std::move(profile)};
}

}  // namespace krul::strategy
