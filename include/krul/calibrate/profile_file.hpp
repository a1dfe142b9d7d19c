#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "krul/compress/profile_belongs.hpp"
#include "krul/core/file_io.hpp"
#include "krul/core/private_folders.hpp"

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

/// Writes a profile to a file, in place of what is there. Folders that are missing are made for this user alone.
/// @return as make_private_folders and write_file
/// @post   read_profile gives an equal profile back
[[nodiscard]] inline Status write_profile(const std::filesystem::path& file, const Profile& profile) {
  if (file.has_parent_path())
    if (auto made = make_private_folders(file.parent_path()); !made) return made;
  const auto bytes = serialize(profile.data());
  return write_file(file, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

/// Where a model's profile is kept in a folder of profiles.
/// @param weights  Identity::weights of the model
[[nodiscard]] inline std::filesystem::path profile_file_in(const std::filesystem::path& folder,
                                                           const std::string& weights) {
  return folder / (weights + ".krulprofile");
}

/// The file of a model's profile that is there, under the weights' name of now or before; nothing if there is none.
[[nodiscard]] inline std::optional<std::filesystem::path> kept_profile_in(const std::filesystem::path& folder,
                                                                          const Identity& model) {
  for (const std::string& weights : {model.weights, model.former_weights})
    if (const auto file = profile_file_in(folder, weights); !weights.empty() && std::filesystem::exists(file))
      return file;
  return std::nullopt;
}

}  // namespace krul
