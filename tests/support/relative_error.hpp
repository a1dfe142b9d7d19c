#pragma once

#include <cmath>
#include <cstddef>
#include <span>

namespace krul::testing {

/// Root of the mean squared difference, in units of the expected values' own size.
[[nodiscard]] inline double relative_error(std::span<const float> found, std::span<const double> expected) {
  double error = 0, size = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    error += std::pow(found[i] - expected[i], 2);
    size += std::pow(expected[i], 2);
  }
  return std::sqrt(error / size);
}

}  // namespace krul::testing
