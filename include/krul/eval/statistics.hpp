#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <numeric>
#include <span>
#include <vector>

#include "krul/core/error.hpp"

namespace krul::eval {

/// Where a value lies with the stated probability.
struct Interval {
  double low = 0;
  double high = 0;
  double coverage =
      0;  ///< the probability that is really reached, which is below the one asked for when n is too small
  friend bool operator==(const Interval&, const Interval&) = default;
};

/// Median of the ratios of measurements that were taken side by side, and how sure it is.
struct PairedRatio {
  double median = 1;
  Interval interval;
  /// Whether there is one of 95 %: below six rounds the interval reaches less.
  [[nodiscard]] bool has_interval() const noexcept { return interval.coverage >= 0.95; }
};

/// @param values  [n], any order
/// @throws PreconditionError if there is none
[[nodiscard]] inline double mean(std::span<const double> values) {
  expects(!values.empty(), "mean: no values");
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

/// The value that `share` of the values lie below, linear between neighbours: quantile(v, 0.5) is the median.
/// @param values  [n], any order; may be infinite
/// @throws PreconditionError if there is none, one is NaN, or share is outside [0, 1]
/// @complexity    O(n log n)
[[nodiscard]] inline double quantile(std::span<const double> values, double share) {
  expects(!values.empty(), "quantile: no values");
  expects(share >= 0 && share <= 1, "quantile: share must lie in [0, 1]");
  expects(std::none_of(values.begin(), values.end(), [](double value) { return std::isnan(value); }),
          "quantile: a value is NaN");
  std::vector<double> sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end());
  const double place = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const double fraction = place - static_cast<double>(below);
  if (fraction == 0 || sorted[below] == sorted[below + 1]) return sorted[below];
  return sorted[below] + fraction * (sorted[below + 1] - sorted[below]);
}

/// @throws PreconditionError as quantile
[[nodiscard]] inline double median(std::span<const double> values) {
  return quantile(values, 0.5);
}

/// Where most values lie.
struct Spread {
  double median = 0;
  double p90 = 0;  ///< 9 of 10 lie below

  /// @throws PreconditionError as quantile
  [[nodiscard]] static Spread of(std::span<const double> values) {
    return {quantile(values, 0.5), quantile(values, 0.9)};
  }
};

/// Interval of the median of the distribution that the values were drawn from, between two of the values: the narrowest
/// symmetric pair of order statistics that the sign test does not reject. Chosen over a bootstrap because it assumes
/// nothing about the distribution, is exact at the seven or so rounds that timing can afford (where a bootstrap is far
/// too narrow), and needs no random numbers.
/// @param values    [n], any order
/// @param coverage  asked for, in (0, 1); below n = 6 even [smallest, largest] does not reach 0.95
/// @post            low <= median(values) <= high; both are among the values
/// @throws          PreconditionError as quantile, or if coverage is outside (0, 1)
/// @complexity      O(n log n)
[[nodiscard]] inline Interval median_interval(std::span<const double> values, double coverage = 0.95) {
  expects(coverage > 0 && coverage < 1, "median_interval: coverage must lie in (0, 1)");
  const double low = quantile(values, 0);
  const auto count = static_cast<double>(values.size());
  // P(binomial(n, 1/2) == k), through logarithms because 2^-n underflows.
  const auto probability = [&](double k) {
    return std::exp(std::lgamma(count + 1) - std::lgamma(k + 1) - std::lgamma(count - k + 1) -
                    count * std::numbers::ln2);
  };
  Interval found{low, quantile(values, 1), 1 - 2 * probability(0)};
  std::vector<double> sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end());
  double reached = found.coverage;
  for (std::size_t left_out = 1; 2 * left_out < sorted.size(); ++left_out) {
    reached -= 2 * probability(static_cast<double>(left_out));
    if (reached < coverage) break;
    found = {sorted[left_out], sorted[sorted.size() - 1 - left_out], reached};
  }
  return found;
}

/// Compares what was measured in the same rounds.
/// @param values    [n], finite
/// @param baseline  [n], > 0, taken in the same rounds
/// @throws          PreconditionError if the lengths differ, n is 0, or a baseline value is not positive
[[nodiscard]] inline PairedRatio paired_ratio(std::span<const double> values, std::span<const double> baseline) {
  expects(values.size() == baseline.size(), "paired_ratio: as many values as baseline values");
  std::vector<double> ratios(values.size());
  for (std::size_t round = 0; round < values.size(); ++round) {
    expects(baseline[round] > 0, "paired_ratio: baseline values must be positive");
    ratios[round] = values[round] / baseline[round];
  }
  return {median(ratios), median_interval(ratios)};
}

/// Ranks from 1 on, by value; equal values share the mean of their places.
/// @return [n]
[[nodiscard]] inline std::vector<double> ranks(std::span<const double> values) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return values[a] < values[b]; });
  std::vector<double> found(values.size());
  for (std::size_t begin = 0; begin < order.size();) {
    std::size_t end = begin + 1;
    while (end < order.size() && values[order[end]] == values[order[begin]]) ++end;
    for (std::size_t place = begin; place < end; ++place)
      found[order[place]] = 0.5 * static_cast<double>(begin + 1 + end);
    begin = end;
  }
  return found;
}

/// Spearman's rank correlation, in [-1, 1]; 0 if all values of one side are equal.
/// @param a, b  [n], n >= 2, none NaN
/// @throws      PreconditionError if the lengths differ, n < 2, or a value is NaN
[[nodiscard]] inline double rank_correlation(std::span<const double> a, std::span<const double> b) {
  expects(a.size() == b.size() && a.size() >= 2, "rank_correlation: two sides of the same length, at least 2");
  for (std::size_t i = 0; i < a.size(); ++i)
    expects(!std::isnan(a[i]) && !std::isnan(b[i]), "rank_correlation: a value is NaN");
  const auto left = ranks(a);
  const auto right = ranks(b);
  const double middle = 0.5 * static_cast<double>(a.size() + 1);
  double product = 0, left_square = 0, right_square = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    product += (left[i] - middle) * (right[i] - middle);
    left_square += (left[i] - middle) * (left[i] - middle);
    right_square += (right[i] - middle) * (right[i] - middle);
  }
  if (left_square == 0 || right_square == 0) return 0;
  return product / std::sqrt(left_square * right_square);
}

}  // namespace krul::eval
