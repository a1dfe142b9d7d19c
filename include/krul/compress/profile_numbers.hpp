#pragma once

#include "krul/compress/joint/profile.hpp"
#include "krul/core/error.hpp"

namespace krul {

/// Whether what a profile holds can have been fitted to a model: rows that it decodes would else be no rows, though
/// every checksum matches.
/// @return corrupt, saying what, unless all numbers are finite, means are no larger than any value of a cache (65,504),
///         columns no longer than 1, and one step of a coefficient moves no value by more than a cache holds
[[nodiscard]] Status check_numbers(const Profile& profile);

}  // namespace krul
