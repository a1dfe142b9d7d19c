#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

namespace krul::reference {

struct MergeOptions {
  double t = 0.6, gamma = 0.05;
  std::size_t parts = 1;  ///< a row [n] is merged as so many vectors [n / parts]
};

/// Rows of two layers merged, and what comes back of them.
struct MergedRows {
  std::vector<double> angles;             ///< [T], of a token's vectors the largest; NaN: it cannot be merged
  double threshold = 0;                   ///< larger angles are retained
  std::vector<bool> retained;             ///< [T]
  std::vector<double> shallower, deeper;  ///< [T, n]
};

/// The merge of two vectors: the direction, of length 1.
[[nodiscard]] inline std::vector<double> merged_direction(std::span<const double> shallower,
                                                          std::span<const double> deeper, double t) {
  double xx = 0, yy = 0, xy = 0;
  for (std::size_t i = 0; i < shallower.size(); ++i) {
    xx += shallower[i] * shallower[i];
    yy += deeper[i] * deeper[i];
    xy += shallower[i] * deeper[i];
  }
  const double x = std::sqrt(xx), y = std::sqrt(yy), angle = std::acos(std::clamp(xy / (x * y), -1.0, 1.0));
  const double of_deeper = angle > 0 ? std::sin((1 - t) * angle) / std::sin(angle) : 1 - t;
  const double of_shallower = angle > 0 ? std::sin(t * angle) / std::sin(angle) : t;
  std::vector<double> e;
  double length = 0;
  for (std::size_t i = 0; i < shallower.size(); ++i) {
    e.push_back(of_deeper * deeper[i] / y + of_shallower * shallower[i] / x);
    length += e[i] * e[i];
  }
  for (double& value : e) value /= std::sqrt(length);  // 1 but for rounding
  return e;
}

[[nodiscard]] inline double length(std::span<const double> values) {
  double squares = 0;
  for (const double value : values) squares += value * value;
  return std::sqrt(squares);
}

/// NaN where SlerpMerge cannot merge: see there.
[[nodiscard]] inline double merge_angle(std::span<const double> x, std::span<const double> y) {
  double product = 0;
  for (std::size_t i = 0; i < x.size(); ++i) product += x[i] * y[i];
  for (const auto& each : {x, y}) {
    const double mean = length(each) / std::sqrt(static_cast<double>(each.size()));
    if (!(mean >= 0x1p-13 && mean <= 0x1p15)) return std::numeric_limits<double>::quiet_NaN();
  }
  const double cosine = product / (length(x) * length(y));
  return cosine > -1 + 0x1p-10 ? std::acos(std::min(cosine, 1.0)) : std::numeric_limits<double>::quiet_NaN();
}

/// Twin of SlerpMerge for K or V of one chunk, with nothing rounded.
/// @param shallower, deeper  [tokens, n]
[[nodiscard]] inline MergedRows merge_rows(std::span<const double> shallower, std::span<const double> deeper,
                                           std::size_t tokens, MergeOptions options = {}) {
  MergedRows rows;
  rows.shallower.assign(shallower.begin(), shallower.end());
  rows.deeper.assign(deeper.begin(), deeper.end());
  const std::size_t width = tokens == 0 ? 0 : shallower.size() / tokens / options.parts;
  double least = std::numeric_limits<double>::infinity(), most = -least;
  for (std::size_t token = 0; token < tokens; ++token) {
    double largest = 0;
    for (std::size_t part = 0; part < options.parts; ++part) {
      const std::size_t at = (token * options.parts + part) * width;
      const double angle = merge_angle(shallower.subspan(at, width), deeper.subspan(at, width));
      largest = std::isnan(largest) || std::isnan(angle) ? std::nan("") : std::max(largest, angle);
    }
    rows.angles.push_back(largest);
    if (std::isnan(largest)) continue;
    least = std::min(least, largest);
    most = std::max(most, largest);
  }
  rows.threshold = most - options.gamma * (most - least);
  for (std::size_t token = 0; token < tokens; ++token) {
    rows.retained.push_back(std::isnan(rows.angles[token]) || rows.angles[token] > rows.threshold);
    if (rows.retained[token]) continue;
    for (std::size_t part = 0; part < options.parts; ++part) {
      const std::size_t at = (token * options.parts + part) * width;
      const auto x = shallower.subspan(at, width), y = deeper.subspan(at, width);
      const auto e = merged_direction(x, y, options.t);
      for (std::size_t i = 0; i < width; ++i) {
        rows.shallower[at + i] = e[i] * length(x);
        rows.deeper[at + i] = e[i] * length(y);
      }
    }
  }
  return rows;
}

}  // namespace krul::reference
