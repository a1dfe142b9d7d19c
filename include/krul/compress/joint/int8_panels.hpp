#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "krul/core/processor.hpp"

namespace krul {

/// A matrix [depth, columns] of int8, packed for products with few rows: panels of 16 columns, in which four
/// neighbouring depths lie in one word of 32 bits, each plus 128. Each column has a scale, and an offset that its
/// products begin at.
class Int8Panels {
 public:
  static constexpr std::size_t width = 16;          ///< columns of a panel
  static constexpr std::size_t most_depth = 32768;  ///< sums of more could leave 31 bits

  Int8Panels() = default;
  /// @param values  [depth, columns], row-major, none -128
  /// @throws PreconditionError if the length does not fit, or the matrix is deeper than most_depth
  Int8Panels(std::size_t depth, std::size_t columns, std::span<const std::int8_t> values);
  /// The same of the transpose.
  /// @param values  [columns, depth], row-major
  [[nodiscard]] static Int8Panels transposed(std::size_t depth, std::size_t columns,
                                             std::span<const std::int8_t> values);

  /// Rounds floats to 127 steps of each column's largest magnitude.
  /// @param values   [depth, columns], row-major, finite
  /// @param offsets  [columns]
  /// @throws PreconditionError as above
  [[nodiscard]] static Int8Panels rounded(std::size_t depth, std::size_t columns, std::span<const float> values,
                                          std::span<const float> offsets);

  [[nodiscard]] std::size_t depth() const noexcept { return depth_; }
  [[nodiscard]] std::size_t columns() const noexcept { return columns_; }
  [[nodiscard]] std::size_t quads() const noexcept { return (depth_ + 3) / 4; }
  [[nodiscard]] std::size_t panels() const noexcept { return (columns_ + width - 1) / width; }
  /// [quads, 16] of one panel; what lies beyond the matrix is zero.
  [[nodiscard]] const std::uint32_t* panel(std::size_t index) const noexcept {
    return words_.data() + index * quads() * width;
  }
  [[nodiscard]] const float* scales() const noexcept { return scales_.data(); }    ///< [panels, 16]
  [[nodiscard]] const float* offsets() const noexcept { return offsets_.data(); }  ///< [panels, 16]

 private:
  template <class At>
  void fill(At&& at);

  std::size_t depth_ = 0, columns_ = 0;
  std::vector<std::uint32_t> words_;     // [panels, quads, 16]
  std::vector<float> scales_, offsets_;  // [panels, 16]
};

/// The left side of a product: rows of int8, each with a scale; four neighbouring depths in a word, padded with zero
/// rows.
class Int8Rows {
 public:
  static constexpr std::size_t step = 8;  ///< rows are padded to a multiple of this

  Int8Rows() = default;
  /// Rounds floats to 127 steps of each row's largest magnitude, to nearest even.
  /// @param from    [rows, depth], row-major, finite
  /// @param stride  from row to row; 0: depth
  /// @throws PreconditionError if there are fewer floats
  Int8Rows(std::size_t rows, std::size_t depth, std::span<const float> from, std::size_t stride = 0);

  [[nodiscard]] std::size_t rows() const noexcept { return rows_; }
  [[nodiscard]] static constexpr std::size_t padded(std::size_t rows) noexcept {
    return (rows + step - 1) / step * step;
  }
  [[nodiscard]] std::size_t padded_rows() const noexcept { return padded(rows_); }
  [[nodiscard]] std::size_t quads() const noexcept { return quads_; }
  /// [quads] of one row.
  [[nodiscard]] const std::uint32_t* row(std::size_t index) const noexcept { return words_.data() + index * quads_; }
  [[nodiscard]] float scale(std::size_t row) const noexcept { return scales_[row]; }
  /// What the panels' 128 adds to each sum of a row.
  [[nodiscard]] std::int32_t excess(std::size_t row) const noexcept { return excess_[row]; }
  [[nodiscard]] const float* scales() const noexcept { return scales_.data(); }           ///< [padded rows]
  [[nodiscard]] const std::int32_t* excesses() const noexcept { return excess_.data(); }  ///< [padded rows]

 private:
  std::size_t rows_ = 0, quads_ = 0;
  std::vector<std::uint32_t> words_;  // [padded rows, quads]
  std::vector<float> scales_;         // [padded rows]
  std::vector<std::int32_t> excess_;  // [padded rows]
};

/// out = rows * panels, times each row's and each column's scale, plus each column's offset: of the leading depths that
/// the rows have, and as many panels as `out` holds. All levels give the same bits: sums are integers.
/// @param out  [rows.padded_rows(), 16 for each panel]
/// @throws PreconditionError if the rows are deeper than the panels, or `out` holds no whole panels or more than
///         there are
/// @complexity O(rows * depth * columns); about 350 GOP/s a core of Zen 4 with avx512, 130 of Zen 3 with avx2
void multiply(const Int8Rows& rows, const Int8Panels& panels, std::span<float> out,
              InstructionLevel level = instruction_level());

}  // namespace krul
