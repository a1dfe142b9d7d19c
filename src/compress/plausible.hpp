#pragma once

#include <algorithm>
#include <cmath>
#include <span>

namespace krul::detail {

/// Of f16: what a row may hold, and one step of a coefficient may change.
inline constexpr float largest_value = 65504;

/// Written so that NaN fails, too.
[[nodiscard]] inline bool all_below(std::span<const float> values, float limit) {
  return std::all_of(values.begin(), values.end(), [&](float value) { return std::abs(value) <= limit; });
}

}  // namespace krul::detail
