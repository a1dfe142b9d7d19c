#pragma once

#include <filesystem>
#include <string_view>

#include "tool.hpp"

namespace krul::cli {

/// Writes a whole file; ends the program if that is not possible.
inline void write_file(const std::filesystem::path& path, std::string_view bytes) {
  unwrap(krul::write_file(path, bytes));
}

}  // namespace krul::cli
