#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "krul/core/costs.hpp"
#include "krul/core/error.hpp"

namespace krul {

/// One layer of one measured restore.
struct LayerSample {
  double projected_rows = 0;  ///< > 0
  double finished_rows = 0;   ///< > 0
  double pairs = 0;           ///< of a row and a key it sees, > 0
  double keys = 0;            ///< that some row sees, > 0
  double decoded_rows = 0;    ///< loaded, K and V
  double project_s = 0;       ///< norm, Q, K, V, rotary
  double attend_s = 0;
  double finish_s = 0;  ///< output projection, MLP
  double decode_s = 0;  ///< looked at if rows were decoded
};

/// Weights >= 0 with the least sum of squared relative errors, (sum of weights[i] * x[k][i] - y[k])^2 / y[k]^2: a short
/// measurement weighs as much as a long one. Non-negative least squares in a few unknowns, solved exactly: the best
/// answer over every set of weights that are not zero.
/// @param x  [n, Count] finite and >= 0
/// @param y  [n] > 0
/// @throws PreconditionError if there are no samples, the lengths differ or a value is out of its range
/// @complexity O(n Count^2 + 2^Count Count^3)
template <std::size_t Count>
[[nodiscard]] std::array<double, Count> fit_sum(std::span<const std::array<double, Count>> x,
                                                std::span<const double> y) {
  expects(!x.empty() && x.size() == y.size(), "fit_sum: needs samples, as many x as y");
  // In units of the largest value of each column, else the normal equations lose digits where x counts pairs or bytes.
  std::array<double, Count> unit{};
  for (const auto& row : x)
    for (std::size_t i = 0; i < Count; ++i) {
      expects(std::isfinite(row[i]) && row[i] >= 0, "fit_sum: x must be finite and not negative");
      unit[i] = std::max(unit[i], row[i]);
    }
  std::array<std::array<double, Count>, Count> products{};
  std::array<double, Count> target{};
  for (std::size_t k = 0; k < x.size(); ++k) {
    expects(std::isfinite(y[k]) && y[k] > 0, "fit_sum: y must be finite and above zero");
    std::array<double, Count> row{};
    for (std::size_t i = 0; i < Count; ++i) row[i] = unit[i] > 0 ? x[k][i] / unit[i] / y[k] : 0;
    for (std::size_t i = 0; i < Count; ++i) {
      target[i] += row[i];
      for (std::size_t j = 0; j < Count; ++j) products[i][j] += row[i] * row[j];
    }
  }
  std::array<double, Count> best{};
  double best_explained = 0;
  for (std::size_t set = 1; set < std::size_t{1} << Count; ++set) {
    // Gauss and Jordan over the columns of the set. Those that the others make up leave it singular: a smaller set
    // explains as much.
    auto matrix = products;
    auto weights = target;
    bool usable = true;
    for (std::size_t i = 0; i < Count; ++i) {
      if ((set >> i & 1) == 0) {
        weights[i] = 0;
        continue;
      }
      if (!(matrix[i][i] > 1e-12 * products[i][i])) usable = false;
      if (!usable) break;
      for (std::size_t row = 0; row < Count; ++row) {
        if (row == i || (set >> row & 1) == 0) continue;
        const double factor = matrix[row][i] / matrix[i][i];
        for (std::size_t j = 0; j < Count; ++j) matrix[row][j] -= factor * matrix[i][j];
        weights[row] -= factor * weights[i];
      }
    }
    double explained = 0;  // of the sum of squares, by the least-squares solution of this set
    for (std::size_t i = 0; i < Count && usable; ++i) {
      if ((set >> i & 1) == 0) continue;
      weights[i] /= matrix[i][i];
      usable = weights[i] >= 0;
      explained += weights[i] * target[i];
    }
    if (!usable || explained <= best_explained) continue;
    best = weights;
    best_explained = explained;
  }
  for (std::size_t i = 0; i < Count; ++i)
    if (unit[i] > 0) best[i] /= unit[i];
  return best;
}

/// y = constant + slope * x, both >= 0.
struct Line {
  double constant = 0;
  double slope = 0;
};

/// fit_sum of a line.
/// @param x  [n] finite and >= 0
/// @param y  [n] > 0
/// @throws PreconditionError as fit_sum
[[nodiscard]] inline Line fit_line(std::span<const double> x, std::span<const double> y) {
  std::vector<std::array<double, 2>> columns;
  for (const double value : x) columns.push_back({1, value});
  const auto [constant, slope] = fit_sum<2>(columns, y);
  return {constant, slope};
}

/// What a layer takes on this machine, from measured restores of several shapes.
///
/// Projecting and finishing are lines over rows; their constants together are the cost of a call. Attending is so much
/// a pair of a row and a key, so much a key, and so much a row, which counts as finishing it. Decoding is so
/// much a row, 0 if nothing was decoded.
/// @throws PreconditionError if there are no samples, one has no rows, pairs or keys, or a time is not above zero
[[nodiscard]] inline LayerCosts fit_layer_costs(std::span<const LayerSample> samples) {
  std::vector<double> projected, finished, project_s, attend_s, finish_s, decode_s;
  std::vector<std::array<double, 3>> attended;
  std::vector<std::array<double, 1>> decoded;
  for (const LayerSample& sample : samples) {
    expects(sample.projected_rows > 0 && sample.finished_rows > 0 && sample.pairs > 0 && sample.keys > 0,
            "fit_layer_costs: a sample needs rows");
    projected.push_back(sample.projected_rows);
    finished.push_back(sample.finished_rows);
    attended.push_back({sample.pairs, sample.keys, sample.finished_rows});
    project_s.push_back(sample.project_s);
    attend_s.push_back(sample.attend_s);
    finish_s.push_back(sample.finish_s);
    if (sample.decoded_rows <= 0) continue;
    decoded.push_back({sample.decoded_rows});
    decode_s.push_back(sample.decode_s);
  }
  const Line project = fit_line(projected, project_s), finish = fit_line(finished, finish_s);
  const auto [pair_s, key_s, row_s] = fit_sum<3>(attended, attend_s);
  return {.call_s = project.constant + finish.constant,
          .project_row_s = project.slope,
          .finish_row_s = finish.slope + row_s,
          .attend_pair_s = pair_s,
          .attend_key_s = key_s,
          .decode_row_s = decoded.empty() ? 0 : fit_sum<1>(decoded, decode_s)[0]};
}

}  // namespace krul
