#pragma once

#include <string>

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
                "the profile does not say which weights it was made for: make it again with calibrate_profile or krul "
                "calibrate");
  if (data.geometry != model.geometry)
    return fail(ErrorCode::identity_mismatch, "the profile was made for another model (" + data.geometry +
                                                  "): make one for this model with krul calibrate");
  if (!are_same_weights(data.model, model))
    return fail(ErrorCode::identity_mismatch, "the profile was made for other weights (" + data.model + ", here " +
                                                  model.weights + "): make one for this model with krul calibrate");
  return {};
}

}  // namespace krul
