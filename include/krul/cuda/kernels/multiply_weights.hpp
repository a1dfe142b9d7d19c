#pragma once

#include <cstddef>
#include <cstdint>

#include "krul/core/element_type.hpp"
#include "krul/cuda/kernel_block.hpp"
#include "krul/cuda/kernels/device_bits.hpp"

namespace krul::cuda {

/// out[r, c] = sum over k of rows[r, k] * weights[c, k], and what stood there before if `add`.
struct WeightProduct {
  const void* rows;     ///< [R, depth]
  const void* weights;  ///< [columns, depth], of the same type
  float* out;           ///< [R, columns]
  std::uint32_t count, columns, depth;
  bool add = false;
};

/// A product, in f32 and in the order of the depth. A thread a column: right on any device, and slow.
struct MultiplyWeights {
  WeightProduct product;
  ElementType type;

  template <KernelBlock Block>
  KRUL_DEVICE void operator()(Block& block) const {
    const std::uint32_t step = block.blocks() * block.threads();
    for (std::uint32_t column = block.index() * block.threads() + block.thread(); column < product.columns;
         column += step)
      for (std::uint32_t row = 0; row < product.count; ++row) {
        const std::size_t x = std::size_t{row} * product.depth, w = std::size_t{column} * product.depth;
        float sum = 0;
        for (std::uint32_t k = 0; k < product.depth; ++k)
          sum = fused(load_value(type, product.rows, x + k), load_value(type, product.weights, w + k), sum);
        float& out = product.out[std::size_t{row} * product.columns + column];
        out = product.add ? out + sum : sum;
      }
  }
};

}  // namespace krul::cuda
