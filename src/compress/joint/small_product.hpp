#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "float_lanes.hpp"

namespace krul::detail {

/// A matrix of floats whose rows lie `stride` apart.
struct Floats {
  const float* values;
  std::size_t stride;
};
struct MutableFloats {
  float* values;
  std::size_t stride;
};
/// Rows and columns of a product, and what is summed up over.
struct ProductShape {
  std::size_t rows, columns, depth;
};
/// What becomes of what was there.
enum class Into { replaced, added, subtracted };

/// left [rows, depth] * right [depth, columns], in f32. Eight rows and 32 columns are summed in registers.
template <Into How>
void small_product(ProductShape shape, Floats left, Floats right, MutableFloats to) {
  constexpr std::size_t lanes = lane_count, vectors = 2, height = 8;
  const auto joined = [](auto before, auto sum) {
    if constexpr (How == Into::replaced) return sum;
    return How == Into::added ? before + sum : before - sum;
  };
  for (std::size_t row = 0; row < shape.rows; row += height) {
    const std::size_t rows = std::min(height, shape.rows - row);
    const float* values[height];
    for (std::size_t i = 0; i < height; ++i) values[i] = left.values + (row + std::min(i, rows - 1)) * left.stride;
    std::size_t column = 0;
    const auto strip = [&]<std::size_t Vectors>() {
      // Loops over sums are unrolled, or the compiler keeps them in memory.
      Lanes sums[height][Vectors] = {};
      for (std::size_t k = 0; k < shape.depth; ++k) {
        Lanes line[Vectors];
#pragma GCC unroll 8
        for (std::size_t v = 0; v < Vectors; ++v) line[v] = load(right.values + k * right.stride + column + v * lanes);
#pragma GCC unroll 8
        for (std::size_t i = 0; i < height; ++i)
#pragma GCC unroll 8
          for (std::size_t v = 0; v < Vectors; ++v) sums[i][v] += values[i][k] * line[v];
      }
#pragma GCC unroll 8
      for (std::size_t i = 0; i < height; ++i) {
        if (i >= rows) break;
        float* out = to.values + (row + i) * to.stride + column;
        Lanes before[Vectors];
        std::memcpy(before, out, sizeof before);
        for (std::size_t v = 0; v < Vectors; ++v) before[v] = joined(before[v], sums[i][v]);
        std::memcpy(out, before, sizeof before);
      }
      column += Vectors * lanes;
    };
    while (column + vectors * lanes <= shape.columns) strip.template operator()<vectors>();
    while (column + lanes <= shape.columns) strip.template operator()<1>();
    for (; column < shape.columns; ++column)
      for (std::size_t i = 0; i < rows; ++i) {
        float sum = 0;
        for (std::size_t k = 0; k < shape.depth; ++k) sum += values[i][k] * right.values[k * right.stride + column];
        float& out = to.values[(row + i) * to.stride + column];
        out = joined(out, sum);
      }
  }
}

}  // namespace krul::detail
