#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "krul/compress/joint/profile.hpp"
#include "krul/core/error.hpp"
#include "krul/core/identity.hpp"

namespace krul {

/// Whether a profile was made for a model. One of other weights decodes what it coded, but badly: its rows err far more
/// than its steps say. One that names no weights could be any model's.
/// @return identity_mismatch, saying what to do, if the profile is another model's, or names no model
[[nodiscard]] inline Status belongs_to(const Profile& profile, const Identity& model) {
  const ProfileData& data = profile.data();
  if (data.model.empty())
    return fail(ErrorCode::identity_mismatch,
                "the profile does not say which weights it was made for: make it again with calibrate_profile, or krul "
                "calibrate for krul's own models");
  if (data.geometry != model.geometry)
    return fail(ErrorCode::identity_mismatch,
                "the profile was made for another model (" + data.geometry +
                    "): make one for this model with calibrate_profile, or krul calibrate for krul's own models");
  if (!are_same_weights(data.model, model))
    return fail(ErrorCode::identity_mismatch,
                "the profile was made for other weights (" + data.model + ", here " + model.weights +
                    "): make one for this model with calibrate_profile, or krul calibrate for krul's own models");
  return {};
}

/// The profile that a file's bytes hold, if it was made for a model.
/// @return errors as parse_profile, Profile::create and belongs_to
[[nodiscard]] inline Result<std::shared_ptr<const Profile>> read_profile_for(std::span<const std::byte> bytes,
                                                                             const Geometry& geometry,
                                                                             const Identity& model) {
  auto data = parse_profile(bytes);
  if (!data) return propagate(data);
  auto profile = Profile::create(std::move(*data), geometry);
  if (!profile) return profile;
  if (auto status = belongs_to(**profile, model); !status) return propagate(status);
  return profile;
}

}  // namespace krul
