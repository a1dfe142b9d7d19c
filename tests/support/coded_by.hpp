#pragma once

#include <memory>
#include <utility>

#include "krul/strategy/catalogue/coded_by_profile.hpp"

namespace krul::test {

/// Groups of layers coded by a profile at its own step, everything read; one byte a value if there is none.
[[nodiscard]] inline strategy::CodedByProfile coded_by(std::shared_ptr<const Profile> profile) {
  return {{.name = "coded"}, std::move(profile)};
}

}  // namespace krul::test
