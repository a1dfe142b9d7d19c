#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>

namespace krul::reference {

/// What fit_sum minimises.
template <std::size_t Count>
[[nodiscard]] double relative_squares(const std::array<double, Count>& weights,
                                      std::span<const std::array<double, Count>> x, std::span<const double> y) {
  double sum = 0;
  for (std::size_t k = 0; k < x.size(); ++k) {
    double value = 0;
    for (std::size_t i = 0; i < Count; ++i) value += weights[i] * x[k][i];
    sum += std::pow(value / y[k] - 1, 2);
  }
  return sum;
}

/// Twin of fit_sum: one weight at a time is set to its best value >= 0 while the others stand still, over and over.
/// Converges, slowly where several explain the same.
template <std::size_t Count>
[[nodiscard]] std::array<double, Count> fit_sum(std::span<const std::array<double, Count>> x, std::span<const double> y,
                                                std::size_t rounds = 20000) {
  std::array<double, Count> weights{};
  for (std::size_t round = 0; round < rounds; ++round) {
    for (std::size_t i = 0; i < Count; ++i) {
      double up = 0, down = 0;
      for (std::size_t k = 0; k < x.size(); ++k) {
        double left = 1;
        for (std::size_t j = 0; j < Count; ++j)
          if (j != i) left -= weights[j] * x[k][j] / y[k];
        up += left * x[k][i] / y[k];
        down += x[k][i] * x[k][i] / (y[k] * y[k]);
      }
      weights[i] = down > 0 ? std::max(up / down, 0.0) : 0;
    }
  }
  return weights;
}

}  // namespace krul::reference
