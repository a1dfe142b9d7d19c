#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "krul/restore/predict.hpp"
#include "krul/simulate/device_costs.hpp"
#include "krul/simulate/shared_layers.hpp"
#include "krul/strategy/paper_allocation.hpp"

namespace krul::simulate {

/// Rows in a coding of krul's own.
struct CodedRows {
  double strength = 1;      ///< bytes at two bytes a value, over stored bytes
  double decode_row_s = 0;  ///< per row and layer
};

/// One conversation that comes back, on one machine.
struct Scene {
  ModelShape shape;
  Costs costs;             ///< decode_row_s is that of rows at two bytes a value
  double merge_row_s = 0;  ///< per row and layer of a merged pair, to expand it
  CodedRows int8, strong, strongest;
  std::size_t history = 2000;  ///< N
  std::size_t prompt = 128;    ///< M >= 1
  std::size_t block = 64;
};

/// krul's codings in a simulation: int8 with its scales, and joint coding at two strengths that were reached with a
/// real coder on small models (docs/simulation.md). That a model of the paper allows them is an assumption. The basis
/// is that of groups of 8 layers of SmolLM2 for every model: 1,536 values transformed together.
inline constexpr RowCoding int8_coding{"int8", 1.88, 0, false};
inline constexpr RowCoding strong_coding{"joint 8x", 8, 1536, true};
inline constexpr RowCoding strongest_coding{"joint 12x", 12, 1536, true};

/// A model on an accelerator whose costs are counted.
[[nodiscard]] inline Scene device_scene(const ModelShape& shape, const Hardware& hardware, std::size_t history,
                                        std::size_t prompt) {
  const auto coded = [&](const RowCoding& coding) {
    return CodedRows{coding.strength, decode_row_s(coding, shape, hardware.accelerator)};
  };
  return {.shape = shape,
          .costs = device_costs(shape, hardware),
          // One merged row is read and two are written.
          .merge_row_s = 1.5 * static_cast<double>(shape.row_bytes()) / hardware.accelerator.memory_bytes_per_s,
          .int8 = coded(int8_coding),
          .strong = coded(strong_coding),
          .strongest = coded(strongest_coding),
          .history = history,
          .prompt = prompt};
}

/// What was measured of a model on the machine at hand.
struct MeasuredCosts {
  Costs costs;              ///< over the link that is simulated, of rows at two bytes a value
  double int8_row_s = 0;    ///< to decode a row of one layer that is stored as int8
  double merged_row_s = 0;  ///< the same of merged pairs
  double memory_bytes_per_s = 1e9;
};

/// A model on a machine whose costs were measured. Joint coding is not among them: its basis is counted at the speed of
/// the projections, its symbols at those of two cores.
/// @source ours
[[nodiscard]] inline Scene measured_scene(const ModelShape& shape, const MeasuredCosts& measured) {
  Accelerator cores;
  cores.peak_flops = 2 * shape.projection_weights() / measured.costs.layer.project_row_s;
  cores.matrix_share = 1;
  cores.memory_bytes_per_s = measured.memory_bytes_per_s;
  cores.symbols_per_s = 4e8;
  const auto joint = [&](const RowCoding& coding) {
    return CodedRows{coding.strength, decode_row_s(coding, shape, cores)};
  };
  return {.shape = shape,
          .costs = measured.costs,
          .merge_row_s = std::max(measured.merged_row_s - measured.costs.layer.decode_row_s, 0.0),
          .int8 = {int8_coding.strength, measured.int8_row_s},
          .strong = joint(strong_coding),
          .strongest = joint(strongest_coding)};
}

/// The same machine with another conversation, in a hundred blocks at most: plans of long histories need no finer
/// steps.
[[nodiscard]] inline Scene at_length(Scene scene, std::size_t history, std::size_t prompt) {
  scene.history = history;
  scene.prompt = prompt;
  scene.block = 64 * std::max<std::size_t>(1, (history + 6399) / 6400);
  return scene;
}

/// Bytes of a row and of a merged row: two bytes a value, and two norms a token for K and for V.
/// @source the form: MiniCache, arXiv:2405.14366, second-hand. Retained tokens are left out, since the paper's sizes
///         leave no room for them.
[[nodiscard]] inline RowBytes row_bytes(const ModelShape& shape) {
  const auto own = static_cast<double>(shape.row_bytes());
  return {own, own + 8};
}

/// What the planner has to know of a scene if every row is stored; tokens that both layers of a pair load are stored
/// once.
[[nodiscard]] inline RestoreSizes scene_sizes(const Scene& scene, const RowBytes& row,
                                              std::span<const LayerPair> pairs = {}) {
  const auto block_bytes = [&](double bytes) {
    return static_cast<std::uint64_t>(static_cast<double>(scene.block) * bytes);
  };
  RestoreSizes sizes = sizes_if_stored(scene.history, scene.block, scene.shape.layers, pairs,
                                       {.single = block_bytes(row.own), .pair = block_bytes(row.merged)});
  sizes.prompt = scene.prompt;
  return sizes;
}

/// The scene's costs where pairs are merged: their rows have to be expanded, spread evenly over the layers.
[[nodiscard]] inline Costs merging_costs(const Scene& scene, std::span<const LayerPair> pairs) {
  Costs costs = scene.costs;
  costs.layer.decode_row_s +=
      scene.merge_row_s * 2 * static_cast<double>(pairs.size()) / static_cast<double>(scene.shape.layers);
  return costs;
}

/// Seconds on the cores of a pass over `rows` new rows behind `present` rows that are there; without what happens once
/// a pass.
[[nodiscard]] inline double pass_cores_s(const Scene& scene, std::size_t present, std::size_t rows) {
  if (rows == 0) return 0;
  const LayerCosts& cost = scene.costs.layer;
  const auto new_rows = static_cast<double>(rows), keys = static_cast<double>(present + rows);
  return static_cast<double>(scene.shape.layers) *
         (cost.call_s + new_rows * (cost.project_row_s + cost.finish_row_s) +
          attended_pairs(present, rows) * cost.attend_pair_s + keys * cost.attend_key_s);
}

}  // namespace krul::simulate
