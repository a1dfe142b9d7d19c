#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string_view>

#include "krul/compress/profile_belongs.hpp"
#include "krul/core/file_io.hpp"

namespace krul {

/// The profile that a file holds, if it was made for a model.
/// @return errors as read_text and read_profile_for; identity_mismatch names the file
[[nodiscard]] inline Result<std::shared_ptr<const Profile>> read_profile(const std::filesystem::path& file,
                                                                         const Geometry& geometry,
                                                                         const Identity& model) {
  const auto bytes = read_text(file);
  if (!bytes) return propagate(bytes);
  auto profile = read_profile_for(std::as_bytes(std::span(*bytes)), geometry, model);
  if (!profile && profile.error().code == ErrorCode::identity_mismatch)
    return fail(profile.error().code, file.string() + ": " + profile.error().message);
  return profile;
}

/// Writes a profile to a file, in place of what is there.
/// @return as write_file
/// @post   read_profile gives an equal profile back
[[nodiscard]] inline Status write_profile(const std::filesystem::path& file, const Profile& profile) {
  const auto bytes = serialize(profile.data());
  return write_file(file, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

}  // namespace krul
