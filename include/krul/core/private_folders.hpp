#pragma once

#include <filesystem>

#include "krul/core/error.hpp"

namespace krul {

/// What making a folder failed with.
/// @param number  of the system's error
/// @return        no_space or io
[[nodiscard]] Error cannot_make_folder(const std::filesystem::path& path, int number);

/// Makes a folder, and those above it that are missing, for this user alone: mode 0700. What is there stays as it is.
/// @return as cannot_make_folder
[[nodiscard]] Status make_private_folders(const std::filesystem::path& path);

}  // namespace krul
