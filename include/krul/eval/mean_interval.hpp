#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <numbers>
#include <span>

#include "krul/core/error.hpp"
#include "krul/eval/statistics.hpp"

namespace krul::eval {

/// The t that Student's distribution stays below in magnitude with probability `coverage`.
/// @param degrees   of freedom, >= 1
/// @param coverage  in (0, 1)
/// @throws          PreconditionError if either is outside
/// @source          the finite sums for whole degrees of freedom, Abramowitz and Stegun 26.7.3 and 26.7.4 (second-hand)
/// @complexity      O(degrees)
[[nodiscard]] inline double student_t(std::size_t degrees, double coverage) {
  expects(degrees > 0, "student_t: at least one degree of freedom");
  expects(coverage > 0 && coverage < 1, "student_t: coverage must lie in (0, 1)");
  // P(|T| < t) with tan(angle) = t / sqrt(degrees): a sum of powers of the cosine, each term from the one before.
  const auto probability = [degrees](double angle) {
    const double sine = std::sin(angle), cosine = std::cos(angle);
    const bool odd = degrees % 2 == 1;
    double sum = 0, term = odd ? cosine : 1;
    for (std::size_t power = odd ? 1 : 0; power + 2 <= degrees; power += 2) {
      sum += term;
      term *= cosine * cosine * static_cast<double>(power + 1) / static_cast<double>(power + 2);
    }
    return odd ? 2 / std::numbers::pi * (angle + sine * sum) : sine * sum;
  };
  double low = 0, high = std::numbers::pi / 2;
  for (;;) {
    const double middle = 0.5 * (low + high);
    if (middle == low || middle == high) break;  // no double lies between
    (probability(middle) < coverage ? low : high) = middle;
  }
  return std::tan(low) * std::sqrt(static_cast<double>(degrees));
}

/// Interval of the mean of the distribution that the values were drawn from: mean -+ t s / sqrt(n). Chosen for means
/// over conversations because it needs no random numbers; it assumes that a mean of n values is about normal, so for
/// few values with a heavy tail it is too narrow, and its low end may lie below what is possible.
/// @param values    [n], any order
/// @param coverage  in (0, 1)
/// @post            low <= mean(values) <= high; unbounded for one value, or if a value is infinite
/// @throws          PreconditionError if there is no value, one is NaN, or coverage is outside (0, 1)
[[nodiscard]] inline Interval mean_interval(std::span<const double> values, double coverage = 0.95) {
  constexpr double infinite = std::numeric_limits<double>::infinity();
  const double middle = mean(values);
  expects(coverage > 0 && coverage < 1, "mean_interval: coverage must lie in (0, 1)");
  double squares = 0;
  for (const double value : values) {
    expects(!std::isnan(value), "mean_interval: a value is NaN");
    squares += (value - middle) * (value - middle);
  }
  if (values.size() < 2 || !std::isfinite(squares)) return {-infinite, infinite, coverage};
  const auto count = static_cast<double>(values.size());
  const double half = student_t(values.size() - 1, coverage) * std::sqrt(squares / (count - 1) / count);
  return {middle - half, middle + half, coverage};
}

}  // namespace krul::eval
