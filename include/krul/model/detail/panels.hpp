#pragma once

#include <cstddef>
#include <span>

#include "krul/core/element_type.hpp"
#include "krul/core/error.hpp"
#include "krul/model/layer_ops.hpp"
#include "krul/model/matrix_kernels.hpp"

namespace krul::detail {

/// The checks that every model of MatrixKernels makes on entry of pack.
template <class Packed>
void check_pack(const Packed& packed, std::size_t panel, const WeightRows& weights) {
  expects(packed.depth() > 0 && weights.values.size() % packed.depth() == 0, "pack: the weights are no whole columns");
  const std::size_t columns = weights.values.size() / packed.depth();
  const std::size_t end = panel * panel_columns + columns;
  expects(end <= packed.columns(), "pack: the weights lie outside the matrix");
  expects(columns % panel_columns == 0 || end == packed.columns(), "pack: only the last panel may be short");
}

/// The checks that every model of MatrixKernels makes on entry of multiply.
/// @param one_row   bytes of a prepared row
/// @param all_rows  bytes of all of them
/// @return the number of rows
template <class Packed>
std::size_t check_multiply(const Packed& packed, PanelRange panels, std::size_t one_row, std::size_t all_rows,
                           std::size_t y_size) {
  expects(one_row > 0 && all_rows % one_row == 0, "multiply: the rows do not have the matrix's depth");
  expects(panels.begin < panels.end && panels.size() <= block_panels && panels.end <= panels_of(packed.columns()),
          "multiply: the panels lie outside the matrix or are more than a block");
  const std::size_t rows = all_rows / one_row;
  expects(y_size >= rows * panels.size() * panel_columns, "multiply: the result does not fit");
  return rows;
}

/// prepare of kernels that take rows as they are, rounded to one element type.
inline void prepare_plain(const LayerOps& ops, ElementType type, std::span<const float> values, std::size_t first,
                          std::span<std::byte> row) {
  const std::size_t size = size_of(type);
  expects((first + values.size()) * size <= row.size(), "prepare: the values lie outside the row");
  ops.round(type, values, row.subspan(first * size, values.size() * size));
}

}  // namespace krul::detail
