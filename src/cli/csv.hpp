#pragma once

#include <string>

#include "tool.hpp"

namespace krul::cli {

/// Rows as comma-separated values (RFC 4180, lines end in \n), under the first row's keys; null is an empty field.
/// @param rows  [rows] objects with the same keys, whose values are numbers, strings, booleans or null
[[nodiscard]] std::string csv_text(const Json& rows);

}  // namespace krul::cli
