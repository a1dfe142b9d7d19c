#pragma once

#include <string_view>

namespace krul::cli {

/// The commit that the program was built from, "-dirty" after it if files differed; empty outside a repository.
[[nodiscard]] std::string_view revision();

}  // namespace krul::cli
