#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>

#include "krul/restore/cost_fit.hpp"

namespace krul::reference {

/// What fit_line minimises.
[[nodiscard]] inline double relative_squares(const Line& line, std::span<const double> x, std::span<const double> y) {
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += std::pow((line.constant + line.slope * x[i]) / y[i] - 1, 2);
  return sum;
}

/// Twin of fit_line: one unknown at a time is set to its best value >= 0 while the other stands still, over and over.
/// Converges for two unknowns, slowly where both explain the same.
[[nodiscard]] inline Line fit_line(std::span<const double> x, std::span<const double> y, std::size_t rounds = 20000) {
  Line line;
  for (std::size_t round = 0; round < rounds; ++round) {
    double up = 0, down = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      up += (1 - line.slope * x[i] / y[i]) / y[i];
      down += 1 / (y[i] * y[i]);
    }
    line.constant = std::max(up / down, 0.0);
    up = down = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      up += (1 - line.constant / y[i]) * x[i] / y[i];
      down += x[i] * x[i] / (y[i] * y[i]);
    }
    line.slope = down > 0 ? std::max(up / down, 0.0) : 0;
  }
  return line;
}

}  // namespace krul::reference
