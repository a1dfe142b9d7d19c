#pragma once

#include <algorithm>

#include "krul/core/costs.hpp"
#include "krul/simulate/hardware.hpp"
#include "krul/simulate/model_shape.hpp"

namespace krul::simulate {

/// Costs of a model on an accelerator, by counting: 2 FLOP for each weight and row, 4 H D for each row and key it sees
/// (its product with K and with V). Per layer and pass the weights are read once from memory, and for each key K and V.
/// Added, not overlapped: the memory's part is small for the hundreds of rows that a restore computes.
/// @post decode_row_s is 0: rows in the cache's own element type are copied to their place by the link
/// @source ours
[[nodiscard]] constexpr Costs device_costs(const ModelShape& shape, const Hardware& hardware) noexcept {
  const Accelerator& device = hardware.accelerator;
  const double weights = shape.projection_weights() + shape.finish_weights();
  return {
      .link = hardware.link,
      .layer = {.call_s = weights * shape.weight_bytes / device.memory_bytes_per_s,
                .project_row_s = 2 * shape.projection_weights() / device.matrix_flops(),
                .finish_row_s = 2 * shape.finish_weights() / device.matrix_flops(),
                .attend_pair_s = 4 * static_cast<double>(shape.query_heads * shape.head_dim) / device.attention_flops(),
                .attend_key_s = static_cast<double>(shape.row_bytes()) / device.memory_bytes_per_s,
                .decode_row_s = 0},
      .pass_s = static_cast<double>(shape.vocabulary * shape.hidden) * shape.weight_bytes / device.memory_bytes_per_s};
}

/// How rows are stored by a codec of krul's own.
struct RowCoding {
  std::string_view name;
  double strength = 1;    ///< bytes at two bytes a value, over stored bytes
  std::size_t basis = 0;  ///< values that are transformed together; 0: none
  bool entropy = false;   ///< whether values are entropy-coded
};

/// Seconds to decode K and V of one token in one layer: a product with the basis, the entropy decoder, and
/// the row written to memory.
/// @source ours; not measured on any accelerator
[[nodiscard]] constexpr double decode_row_s(const RowCoding& coding, const ModelShape& shape,
                                            const Accelerator& device) noexcept {
  const double values = 2 * static_cast<double>(shape.kv_values());
  double seconds = static_cast<double>(shape.row_bytes()) * (1 + 1 / coding.strength) / device.memory_bytes_per_s;
  seconds += values * 2 * static_cast<double>(coding.basis) / device.matrix_flops();
  if (coding.entropy) seconds += values / device.symbols_per_s;
  return seconds;
}

/// Room for K and V on an accelerator: nine tenths of its memory, less the weights; 0 if they do not fit.
[[nodiscard]] inline double free_bytes(const Accelerator& accelerator, const ModelShape& shape) noexcept {
  return std::max(0.9 * accelerator.memory_bytes - shape.model_bytes(), 0.0);
}

}  // namespace krul::simulate
