#pragma once

#include <cstddef>

#include "krul/core/element_type.hpp"
#include "krul/core/geometry.hpp"

namespace krul::detail {

/// Heads whose first 2 * pairs values are turned.
struct HeadVectors {
  float* first;  ///< [count, dim]
  std::size_t count;
  std::size_t dim;
  std::size_t pairs;
};

/// The loops of LayerOps for one set of instructions. Plain functions, chosen once.
///
/// A row's bits do not depend on the rows beside it, nor a head's on its neighbours.
struct LayerKernels {
  const char* instructions;
  void (*rms_norm)(const float* row, const float* weight, std::size_t n, float epsilon, float* out);
  void (*swiglu)(const float* gate, const float* up, std::size_t n, float* out);
  void (*add)(float* to, const float* from, std::size_t n);
  void (*round)(ElementType type, const float* from, std::size_t n, std::byte* to);
  /// @param angles  [2, pairs]: cosines, then sines
  void (*rotate)(RotaryPairs pairs, const HeadVectors& heads, const float* angles);
};

/// None if this build has not the instructions.
/// @{
[[nodiscard]] const LayerKernels* avx512_layer_kernels();
[[nodiscard]] const LayerKernels* avx2_layer_kernels();
/// @}
[[nodiscard]] const LayerKernels* portable_layer_kernels();

}  // namespace krul::detail
