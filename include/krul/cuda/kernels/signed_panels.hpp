#pragma once

#include <cstddef>
#include <cstdint>

#include "krul/cuda/kernel_block.hpp"
#include "krul/cuda/kernels/device_bits.hpp"

namespace krul::cuda {

/// A matrix [depth, columns] of int8 in panels of 16 columns, as Int8Panels has it but with signs, not plus 128.
struct SignedPanels {
  const std::uint32_t* words;     ///< [panels, quads, 16]: four depths in each
  const float *scales, *offsets;  ///< [panels, 16]
  std::uint32_t quads;
};

/// A row of int8, four depths in a word, and what its steps are worth.
struct SignedRow {
  const std::uint32_t* words;  ///< [quads]
  float scale;
  std::uint32_t quads;  ///< at most the matrix's
};

/// One value of a row times a matrix: to the bits of krul::multiply.
[[nodiscard]] KRUL_DEVICE inline float product_at(const SignedRow& row, const SignedPanels& panels,
                                                  std::uint32_t column) {
  const std::uint32_t* const panel = panels.words + std::size_t{column / 16} * panels.quads * 16 + column % 16;
  std::int32_t whole = 0;
  for (std::uint32_t quad = 0; quad < row.quads; ++quad)
    whole = add_byte_products(row.words[quad], panel[std::size_t{quad} * 16], whole);
  return fused(static_cast<float>(whole) * row.scale, panels.scales[column], panels.offsets[column]);
}

/// out = rows * panels. A thread a value, a block a row.
struct MultiplyRows {
  const std::uint32_t* words;  ///< [rows, quads]
  const float* scales;         ///< [rows]
  std::uint32_t rows, quads;
  SignedPanels panels;
  std::uint32_t columns;  ///< leading ones that are wanted
  float* out;             ///< [rows, columns]

  template <KernelBlock Block>
  KRUL_DEVICE void operator()(Block& block) const {
    for (std::uint32_t row = block.index(); row < rows; row += block.blocks())
      for (std::uint32_t column = block.thread(); column < columns; column += block.threads())
        out[std::size_t{row} * columns + column] =
            product_at({words + std::size_t{row} * quads, scales[row], quads}, panels, column);
  }
};

}  // namespace krul::cuda
