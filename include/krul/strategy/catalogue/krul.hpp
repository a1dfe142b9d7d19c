#pragma once

#include <memory>
#include <string>
#include <utility>

#include "krul/compress/int8_codec.hpp"
#include "krul/restore/cautious.hpp"
#include "krul/restore/restoration_scheduler.hpp"
#include "krul/strategy/catalogue/coded_by_profile.hpp"

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
  [[nodiscard]] Needs needs() const;
  [[nodiscard]] Result<SavePlan> plan(const Evidence& evidence) const;
  [[nodiscard]] DefaultPolicy restore_policy() const { return {}; }

 private:
  CodedByProfile coded_;
};
static_assert(Strategy<Krul>);

/// The default strategy.
/// @param profile  of the model; may be none
[[nodiscard]] inline Krul krul(std::shared_ptr<const Profile> profile = {}) {
  return Krul(std::move(profile));
}

}  // namespace krul::strategy
