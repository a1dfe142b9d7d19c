#pragma once

#include <cstddef>

#include "krul/core/element_type.hpp"
#include "krul/core/geometry.hpp"
#include "krul/core/instruction_level.hpp"

namespace krul::detail {

/// Heads whose first 2 * pairs values are turned.
struct HeadVectors {
  float* first;  ///< [count, dim]
  std::size_t count;
  std::size_t dim;
  std::size_t pairs;
};

/// The loops of LayerOps for one instruction level. Plain functions, chosen once.
///
/// A row's bits do not depend on the rows beside it, nor a head's on its neighbours.
struct LayerKernels {
  InstructionLevel level;
  void (*rms_norm)(const float* row, const float* weight, std::size_t n, float epsilon, float* out);
  void (*swiglu)(const float* gate, const float* up, std::size_t n, float* out);
  void (*add)(float* to, const float* from, std::size_t n);
  void (*round)(ElementType type, const float* from, std::size_t n, std::byte* to);
  /// @param angles  [2, pairs]: cosines, then sines
  void (*rotate)(RotaryPairs pairs, const HeadVectors& heads, const float* angles);
};

/// There is a specialisation for each level that has code of its own.
template <InstructionLevel>
const LayerKernels* layer_kernels();

template <>
const LayerKernels* layer_kernels<InstructionLevel::portable>();
template <>
const LayerKernels* layer_kernels<InstructionLevel::avx2>();
template <>
const LayerKernels* layer_kernels<InstructionLevel::avx512>();
template <>
const LayerKernels* layer_kernels<InstructionLevel::neon>();

}  // namespace krul::detail
