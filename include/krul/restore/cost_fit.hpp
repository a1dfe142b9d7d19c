#pragma once

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

/// y = constant + slope * x, both >= 0.
struct Line {
  double constant = 0;
  double slope = 0;
};

/// The line with the least sum of squared relative errors, (line(x) - y)^2 / y^2: a short measurement weighs as much as
/// a long one. Non-negative least squares in two unknowns, solved exactly.
/// @param x  [n] >= 0
/// @param y  [n] > 0
/// @throws PreconditionError if there are no samples, the lengths differ or a value is out of its range
[[nodiscard]] inline Line fit_line(std::span<const double> x, std::span<const double> y) {
  expects(!x.empty() && x.size() == y.size(), "fit_line: needs samples, as many x as y");
  // In units of the largest x, else the normal equations lose digits where x counts pairs or bytes.
  double unit = 0;
  for (const double value : x) {
    expects(std::isfinite(value) && value >= 0, "fit_line: x must be finite and not negative");
    unit = value > unit ? value : unit;
  }
  if (unit == 0) unit = 1;
  double aa = 0, ab = 0, bb = 0, at = 0, bt = 0;  // columns a = 1 / y and b = x / y against the target 1
  for (std::size_t i = 0; i < x.size(); ++i) {
    expects(std::isfinite(y[i]) && y[i] > 0, "fit_line: y must be finite and above zero");
    const double a = 1 / y[i], b = x[i] / unit / y[i];
    aa += a * a, ab += a * b, bb += b * b, at += a, bt += b;
  }
  const double determinant = aa * bb - ab * ab;
  if (determinant > 1e-12 * aa * bb) {
    const double constant = (at * bb - bt * ab) / determinant, slope = (bt * aa - at * ab) / determinant;
    if (constant >= 0 && slope >= 0) return {constant, slope / unit};
  }
  // The optimum lies on an edge: one of the two is zero. An edge explains at^2 / aa or bt^2 / bb of the target.
  if (bb > 0 && bt * bt / bb >= at * at / aa) return {0, bt / bb / unit};
  return {at / aa, 0};
}

/// What a layer takes on this machine, from measured restores of several shapes.
///
/// Projecting and finishing are lines over rows; their constants together are the cost of a call. Attending is so much
/// a pair of a row and a key and so much a key. Undoing the coding is so much a row, 0 if nothing was decoded.
/// @throws PreconditionError if there are no samples, one has no rows, pairs or keys, or a time is not above zero
[[nodiscard]] inline LayerCosts fit_layer_costs(std::span<const LayerSample> samples) {
  std::vector<double> projected, finished, pairs_per_key, project_s, attend_s_per_key, finish_s;
  double decode_up = 0, decode_down = 0;  // the least squared relative error of a line through zero
  for (const LayerSample& sample : samples) {
    expects(sample.projected_rows > 0 && sample.finished_rows > 0 && sample.pairs > 0 && sample.keys > 0,
            "fit_layer_costs: a sample needs rows");
    projected.push_back(sample.projected_rows);
    finished.push_back(sample.finished_rows);
    pairs_per_key.push_back(sample.pairs / sample.keys);
    project_s.push_back(sample.project_s);
    attend_s_per_key.push_back(sample.attend_s / sample.keys);
    finish_s.push_back(sample.finish_s);
    if (sample.decoded_rows <= 0) continue;
    expects(std::isfinite(sample.decode_s) && sample.decode_s > 0, "fit_layer_costs: decoding takes time");
    const double rows_per_s = sample.decoded_rows / sample.decode_s;
    decode_up += rows_per_s, decode_down += rows_per_s * rows_per_s;
  }
  const Line project = fit_line(projected, project_s), finish = fit_line(finished, finish_s);
  const Line attend = fit_line(pairs_per_key, attend_s_per_key);
  return {.call_s = project.constant + finish.constant,
          .project_row_s = project.slope,
          .finish_row_s = finish.slope,
          .attend_pair_s = attend.slope,
          .attend_key_s = attend.constant,
          .decode_row_s = decode_down > 0 ? decode_up / decode_down : 0};
}

}  // namespace krul
