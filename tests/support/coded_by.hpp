#pragma once

#include <memory>
#include <utility>

#include "krul/strategy/catalogue/coded_by_profile.hpp"

namespace krul::test {

/// Groups of layers coded by a profile at its own step, everything read; one byte a value if there is none.
/// @param attended  rows that attention finds are finer, else the newest ones
[[nodiscard]] inline strategy::CodedByProfile coded_by(std::shared_ptr<const Profile> profile, bool attended = false) {
  strategy::CodedByProfile::Settings settings{.name = "coded"};
  if (!attended) settings.by_attention.reset();
  return {std::move(settings), std::move(profile)};
}

}  // namespace krul::test
