#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>
#include <string>

#include "krul/model/four_bit_block.hpp"
#include "krul/model/precision.hpp"

namespace krul {

/// Columns of one panel, the unit in which the columns of a packed matrix are divided among threads.
inline constexpr std::size_t panel_columns = 64;
/// Most panels that one call of multiply computes, and their columns.
inline constexpr std::size_t block_panels = 4;
inline constexpr std::size_t block_columns = block_panels * panel_columns;

/// Half-open run of panels.
struct PanelRange {
  std::size_t begin = 0;
  std::size_t end = 0;
  [[nodiscard]] constexpr std::size_t size() const noexcept { return end - begin; }
};

/// Panels of a matrix with that many columns; the last one may be filled up with zeros.
[[nodiscard]] constexpr std::size_t panels_of(std::size_t columns) noexcept {
  return (columns + panel_columns - 1) / panel_columns;
}

/// What is known of all weights of a matrix.
enum class WeightForm {
  any,
  four_bits,  ///< a file holds them in blocks of four bits, which kernels may keep
};
struct MatrixShape {
  std::size_t columns = 0;
  std::size_t depth = 0;
  WeightForm form = WeightForm::any;
};

/// Some rows of a weight tensor; each becomes a column of the product.
struct WeightRows {
  std::span<const float> values;  ///< [n, depth]
  std::span<const FourBitBlock> blocks =
      {};  ///< [n, depth / 32] for a matrix of four bits: scales and minima of the values
};

/// Multiplies rows of activations with packed weights: y[r, c] = sum over k of x[r, k] * weights[c, k].
///
/// Weights are [columns, depth], row-major, as model files hold them; packing brings them into the kernels' own layout,
/// panel by panel. Rows are prepared, once for all columns: rounded, in whatever form the matrix takes them. multiply
/// runs on the calling thread alone, so that whoever calls decides how work is divided.
///   packed_bytes(shape)                        memory that a packed matrix takes
///   make_packed(shape, memory)                 an empty matrix in memory that the caller keeps, aligned to 64 bytes;
///                                              all that depends on the shape is prepared here
///   pack(packed, panel, weights, scratch)      fills panels from `panel` on; n whole panels of columns but for the
///                                              matrix's end; different panels from several threads at once
///   row_bytes(depth)                           memory that a prepared row takes, whatever the matrix
///   prepare(packed, values, first, row)        fills the inputs from `first` on of one row for a matrix; whole panels
///                                              of 64 inputs but for the row's end
///   multiply(packed, panels, rows, y, scratch) prepared rows [R] -> y [R, panels.size() * panel_columns]
///   block_rows()                               rows that one call of multiply does best with
/// One Scratch serves one call at a time.
template <class K>
concept MatrixKernels = requires(const K& kernels, typename K::Packed& target, const typename K::Packed& packed,
                                 typename K::Scratch& scratch, std::size_t number, PanelRange panels,
                                 const MatrixShape& shape, const WeightRows& weights, std::span<const float> values,
                                 std::span<std::byte> memory, std::span<const std::byte> rows, std::span<float> y) {
  { kernels.name() } -> std::same_as<std::string>;     ///< "onednn bf16"
  { kernels.precision() } -> std::same_as<Precision>;  ///< what weights and rows are rounded to
  { kernels.make_scratch() } -> std::same_as<typename K::Scratch>;
  { kernels.packed_bytes(shape) } -> std::same_as<std::size_t>;
  { kernels.make_packed(shape, memory) } -> std::same_as<typename K::Packed>;
  { kernels.pack(target, number, weights, scratch) } -> std::same_as<void>;
  { kernels.row_bytes(number) } -> std::same_as<std::size_t>;
  { kernels.prepare(packed, values, number, memory) } -> std::same_as<void>;
  { kernels.multiply(packed, panels, rows, y, scratch) } -> std::same_as<void>;
  { kernels.block_rows() } -> std::same_as<std::size_t>;
  { packed.columns() } -> std::same_as<std::size_t>;
  { packed.depth() } -> std::same_as<std::size_t>;
};

}  // namespace krul
