#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace krul {

/// Instructions that a product may use. Both round only in the last bits of a sum, differently.
enum class ProductPath : std::uint8_t { portable, avx512_bf16 };

[[nodiscard]] bool available(ProductPath path) noexcept;    ///< on this processor
[[nodiscard]] ProductPath fastest_product_path() noexcept;  ///< of those that are available

/// A matrix [depth, columns] of bf16, packed for products with few rows: panels of 16 columns, in which two
/// neighbouring depths lie in one word of 32 bits.
class Bf16Panels {
 public:
  static constexpr std::size_t width = 16;  ///< columns of a panel

  Bf16Panels() = default;
  /// @param values  [depth, columns] bf16, row-major
  /// @throws PreconditionError if the length does not fit
  Bf16Panels(std::size_t depth, std::size_t columns, std::span<const std::uint16_t> values);
  /// The same of the transpose.
  /// @param values  [columns, depth] bf16, row-major
  [[nodiscard]] static Bf16Panels transposed(std::size_t depth, std::size_t columns,
                                             std::span<const std::uint16_t> values);

  [[nodiscard]] std::size_t depth() const noexcept { return depth_; }
  [[nodiscard]] std::size_t columns() const noexcept { return columns_; }
  [[nodiscard]] std::size_t pairs() const noexcept { return (depth_ + 1) / 2; }
  [[nodiscard]] std::size_t panels() const noexcept { return (columns_ + width - 1) / width; }
  /// [pairs, 16] of one panel; what lies beyond the matrix is zero.
  [[nodiscard]] const std::uint32_t* panel(std::size_t index) const noexcept {
    return &words_[index * pairs() * width];
  }

 private:
  template <class At>
  void fill(At&& at);

  std::size_t depth_ = 0, columns_ = 0;
  std::vector<std::uint32_t> words_;  // [panels, pairs, 16]
};

/// The left side of a product: T rows of bf16, two neighbouring depths in a word, padded with zero rows.
class Bf16Rows {
 public:
  static constexpr std::size_t step = 8;  ///< rows are padded to a multiple of this

  /// Of this shape, all zeros.
  void reset(std::size_t rows, std::size_t depth);
  [[nodiscard]] std::size_t rows() const noexcept { return rows_; }
  [[nodiscard]] std::size_t padded_rows() const noexcept { return padded_; }
  [[nodiscard]] std::size_t pairs() const noexcept { return pairs_; }
  /// [padded_rows()] words: depths 2 `pair` (low half) and 2 `pair` + 1 of all rows.
  [[nodiscard]] std::uint32_t* pair(std::size_t index) noexcept { return &words_[index * padded_]; }
  [[nodiscard]] const std::uint32_t* pair(std::size_t index) const noexcept { return &words_[index * padded_]; }

  /// Rounds rows of floats, to nearest even. Call reset first.
  /// @param from  [rows, stride], of which the first 2 * pairs() columns are read
  void round_from(std::span<const float> from, std::size_t stride);

 private:
  std::size_t rows_ = 0, padded_ = 0, pairs_ = 0;
  std::vector<std::uint32_t> words_;  // [pairs, padded rows]
};

/// out = rows * panels, with sums in f32: of the leading depths that the rows have, and as many panels as `out` holds.
/// @param out  [rows.padded_rows(), 16 for each panel]
/// @throws PreconditionError if the rows are deeper than the panels, `out` holds no whole panels or more than there
/// are,
///         or the path is not available
/// @complexity O(rows * depth * columns); about 200 GFLOP/s a core of Zen 4 with avx512_bf16
void multiply(const Bf16Rows& rows, const Bf16Panels& panels, std::span<float> out,
              ProductPath path = fastest_product_path());

}  // namespace krul
