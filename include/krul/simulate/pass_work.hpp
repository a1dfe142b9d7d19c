#pragma once

#include <cstddef>

#include "krul/core/costs.hpp"
#include "krul/simulate/hardware.hpp"
#include "krul/simulate/model_shape.hpp"

namespace krul::simulate {

/// A forward pass over new rows behind those that the cache already has, which gives logits of the last row.
struct PassSize {
  std::size_t history = 0;  ///< rows of the cache before the pass
  std::size_t rows = 1;     ///< that are computed, >= 1

  /// Pairs of a row and a key that it sees.
  [[nodiscard]] constexpr double pairs() const noexcept {
    return static_cast<double>(rows) * static_cast<double>(history) +
           static_cast<double>(rows) * static_cast<double>(rows + 1) / 2;
  }
  [[nodiscard]] constexpr double keys() const noexcept { return static_cast<double>(history + rows); }
};

/// What a pass takes, by counting.
struct PassWork {
  double matrix_flops = 0;     ///< 2 for each weight and row; the output's for one row
  double attention_flops = 0;  ///< 4 H D for each pair
  double bytes = 0;            ///< weights, and K and V of all keys, each read once

  [[nodiscard]] constexpr double flops() const noexcept { return matrix_flops + attention_flops; }

  /// @param layers  of the shape, all of which are alike
  [[nodiscard]] static constexpr PassWork of_layers(const ModelShape& shape, const PassSize& pass,
                                                    std::size_t layers) noexcept {
    const double weights = shape.projection_weights() + shape.finish_weights(), all = static_cast<double>(layers);
    return {.matrix_flops = all * 2 * weights * static_cast<double>(pass.rows),
            .attention_flops = all * 4 * static_cast<double>(shape.query_heads * shape.head_dim) * pass.pairs(),
            .bytes = all * (weights * shape.weight_bytes + static_cast<double>(shape.row_bytes()) * pass.keys())};
  }
  [[nodiscard]] static constexpr PassWork of(const ModelShape& shape, const PassSize& pass) noexcept {
    PassWork work = of_layers(shape, pass, shape.layers);
    const double output = static_cast<double>(shape.vocabulary * shape.hidden);
    work.matrix_flops += 2 * output;
    work.bytes += output * shape.weight_bytes;
    return work;
  }
};

/// Seconds of a pass at peaks that nothing reaches: the longer one of its FLOP and its bytes. None is faster.
[[nodiscard]] constexpr double least_pass_s(const PassWork& work, const Accelerator& device) noexcept {
  const double compute_s = work.flops() / device.peak_flops, memory_s = work.bytes / device.memory_bytes_per_s;
  return compute_s > memory_s ? compute_s : memory_s;
}

/// Seconds of a pass under costs, as krul's planners count them: all parts one after the other.
[[nodiscard]] constexpr double pass_s(const Costs& costs, std::size_t layers, const PassSize& pass) noexcept {
  const LayerCosts& each = costs.layer;
  return costs.pass_s + static_cast<double>(layers) *
                            (each.call_s + static_cast<double>(pass.rows) * (each.project_row_s + each.finish_row_s) +
                             pass.pairs() * each.attend_pair_s + pass.keys() * each.attend_key_s);
}

}  // namespace krul::simulate
