#pragma once

#include <cstddef>
#include <span>

#include "joint_loops.hpp"

namespace krul::detail {

/// to [rows, stride] = from [rows, stride], the D columns of each head times its symmetric matrix.
/// @param matrices  [heads, D, D]
inline void multiply_heads(std::span<const float> matrices, std::size_t head_dim, std::size_t rows, Floats from,
                           MutableFloats to) {
  if (rows == 0) return;
  const auto& loops = joint_loops(instruction_level());
  const std::size_t width = matrices.size() / head_dim;
  for (std::size_t first = 0; first < width; first += head_dim)
    loops.small_product(Into::replaced, {rows, head_dim, head_dim}, {from.values + first, from.stride},
                        {&matrices[first * head_dim], head_dim}, {to.values + first, to.stride});
}

}  // namespace krul::detail
