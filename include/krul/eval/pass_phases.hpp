#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/eval/paired_rounds.hpp"
#include "krul/eval/timed_backend.hpp"
#include "krul/model/load.hpp"

namespace krul::eval {

/// What the parts of a forward pass work on.
struct PassShape {
  Geometry geometry;
  std::size_t mlp = 0;             ///< width of the MLP
  double layer_weight_bytes = 0;   ///< of all layers' matrices, as they lie in memory
  double output_weight_bytes = 0;  ///< of the matrix that makes logits
};
[[nodiscard]] PassShape pass_shape(const CpuModel& model);

/// What a machine can do at most.
struct PassRoofs {
  double matrices = 0;   ///< operations a second of the layers' matrices
  double output = 0;     ///< of the matrix that makes logits
  double attention = 0;  ///< of attention
  double reading = 0;    ///< bytes a second from memory
};
/// Measured in the precisions and weight forms that a model computes with. Takes some 0.4 s.
[[nodiscard]] PassRoofs measure_pass_roofs(CpuModel& model);

/// A part of a pass beside its roof, or all of it, bound by the sum of what bounds its parts.
/// @source the roofline model (Williams, Waterman, Patterson, 2009); grade: second-hand
struct PassPhase {
  std::string name;
  double operations = 0;  ///< that it cannot do without
  double bytes = 0;       ///< read from memory at least: weights once a layer, K and V once a layer
  double taken_s = 0;
  double arithmetic_s = 0, reading_s = 0;  ///< of the bound: a part is bound by one of them, and the other is 0

  [[nodiscard]] double bound_s() const noexcept { return arithmetic_s + reading_s; }
  /// Share of the bound in what it took; 0 if it took nothing.
  [[nodiscard]] double reached() const noexcept { return taken_s > 0 ? bound_s() / taken_s : 0; }
  /// "arithmetic", "reading", or "" where nothing bounds it.
  [[nodiscard]] const char* bound_by() const noexcept {
    return bound_s() == 0 ? "" : arithmetic_s >= reading_s ? "arithmetic" : "reading";
  }
};

/// The parts of one pass, in order, and all of it.
[[nodiscard]] std::vector<PassPhase> phases_of(const PassShape& shape, const PassFigures& figures,
                                               const PassRoofs& roofs);

/// One pass with the median of each step's time over the rounds.
/// @param report  of one alternative
[[nodiscard]] PassFigures typical_pass(const RoundsReport<PassFigures>& report);

}  // namespace krul::eval
