#include "krul/compress/joint/bf16_product.hpp"

#include <algorithm>
#include <bit>

#include "bf16_kernels.hpp"
#include "krul/core/error.hpp"
#include "krul/core/half.hpp"

namespace krul {

bool available(ProductPath path) noexcept {
  if (path == ProductPath::portable) return true;
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

ProductPath fastest_product_path() noexcept {
  static const ProductPath fastest =
      available(ProductPath::avx512_bf16) ? ProductPath::avx512_bf16 : ProductPath::portable;
  return fastest;
}

template <class At>
void Bf16Panels::fill(At&& at) {
  words_.assign(panels() * pairs() * width, 0);
  for (std::size_t column = 0; column < columns_; ++column) {
    std::uint32_t* to = &words_[column / width * pairs() * width + column % width];
    for (std::size_t depth = 0; depth < depth_; ++depth)
      to[depth / 2 * width] |= static_cast<std::uint32_t>(at(depth, column)) << (depth % 2 == 0 ? 0 : 16);
  }
}

Bf16Panels::Bf16Panels(std::size_t depth, std::size_t columns, std::span<const std::uint16_t> values)
    : depth_(depth), columns_(columns) {
  expects(values.size() == depth * columns, "Bf16Panels: the values are not [depth, columns]");
  fill([&](std::size_t row, std::size_t column) { return values[row * columns + column]; });
}

Bf16Panels Bf16Panels::transposed(std::size_t depth, std::size_t columns, std::span<const std::uint16_t> values) {
  expects(values.size() == depth * columns, "Bf16Panels: the values are not [columns, depth]");
  Bf16Panels panels;
  panels.depth_ = depth;
  panels.columns_ = columns;
  panels.fill([&](std::size_t row, std::size_t column) { return values[column * depth + row]; });
  return panels;
}

void Bf16Rows::reset(std::size_t rows, std::size_t depth) {
  rows_ = rows;
  padded_ = (rows + step - 1) / step * step;
  pairs_ = (depth + 1) / 2;
  words_.assign(pairs_ * padded_, 0);
}

void Bf16Rows::round_from(std::span<const float> from, std::size_t stride) {
  expects(stride >= 2 * pairs_ && from.size() >= rows_ * stride, "Bf16Rows: there are fewer values than rows");
  for (std::size_t row = 0; row < rows_; ++row) {
    const float* values = &from[row * stride];
    for (std::size_t i = 0; i < pairs_; ++i)
      words_[i * padded_ + row] =
          bf16_from_float(values[2 * i]) | static_cast<std::uint32_t>(bf16_from_float(values[2 * i + 1])) << 16;
  }
}

namespace detail {

void multiply_portable(const Bf16Rows& rows, const Bf16Panels& panels, std::size_t count, float* out) {
  constexpr std::size_t width = Bf16Panels::width;
  const std::size_t stride = count * width;
  for (std::size_t panel = 0; panel < count; ++panel) {
    const std::uint32_t* right = panels.panel(panel);
    for (std::size_t row = 0; row < rows.padded_rows(); ++row) {
      float sums[width] = {};
      for (std::size_t pair = 0; pair < rows.pairs(); ++pair) {
        const std::uint32_t left = rows.pair(pair)[row];
        if (left == 0) continue;
        const auto low = std::bit_cast<float>(left << 16), high = std::bit_cast<float>(left & 0xffff0000U);
        for (std::size_t column = 0; column < width; ++column) {
          const std::uint32_t word = right[pair * width + column];
          sums[column] += low * std::bit_cast<float>(word << 16) + high * std::bit_cast<float>(word & 0xffff0000U);
        }
      }
      std::copy_n(sums, width, out + row * stride + panel * width);
    }
  }
}

}  // namespace detail

void multiply(const Bf16Rows& rows, const Bf16Panels& panels, std::span<float> out, ProductPath path) {
  const std::size_t of_panel = rows.padded_rows() * Bf16Panels::width,
                    count = of_panel == 0 ? 0 : out.size() / of_panel;
  expects(
      rows.pairs() <= panels.pairs() && count <= panels.panels() && out.size() == count * of_panel && available(path),
      "multiply: the shapes do not fit together, or the path is not one of this processor");
  if (path == ProductPath::avx512_bf16) {
    detail::multiply_avx512(rows, panels, count, out.data());
  } else {
    detail::multiply_portable(rows, panels, count, out.data());
  }
}

}  // namespace krul
