#pragma once

#include <memory>
#include <optional>
#include <utility>

#include "krul/compress/int4_codec.hpp"
#include "krul/compress/int8_codec.hpp"
#include "krul/strategy/catalogue/coded_by_profile.hpp"

namespace krul::strategy {

// Steps are of a profile whose code 0 has a KL of 0.009 on what it was fitted to. What was not fitted to errs more:
// these were chosen on other sources, see docs/coding-measured.md.

/// Groups of layers coded together by the model's profile, all of it read: 11 to 14 times smaller than f16.
/// @source ours
[[nodiscard]] inline CodedByProfile krul_codec(std::shared_ptr<const Profile> profile = {}) {
  return {{.name = "krul-codec", .without_profile = Int8Codec{}, .step = {-13}, .kl = 0.0024}, std::move(profile)};
}

/// The same with larger steps: 13 to 17 times smaller.
/// @source ours
[[nodiscard]] inline CodedByProfile krul_compact(std::shared_ptr<const Profile> profile = {}) {
  return {{.name = "krul-compact",
           .without_profile = Int4Codec{},
           .step = {-6},
           .kl = 0.0055,
           .finest = {-20},
           .coarsest = {-6}},
          std::move(profile)};
}

/// krul-codec with the newest rows coded finely in the place of those that attention finds.
/// @source ours
[[nodiscard]] inline CodedByProfile krul_newest(std::shared_ptr<const Profile> profile = {}) {
  return {{.name = "krul-newest",
           .without_profile = Int8Codec{},
           .step = {-13},
           .kl = 0.0024,
           .by_attention = std::nullopt},
          std::move(profile)};
}

}  // namespace krul::strategy
