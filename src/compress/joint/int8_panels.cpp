#include "krul/compress/joint/int8_panels.hpp"

#include <algorithm>
#include <cstring>

#include "float_lanes.hpp"
#include "int8_panels_kernels.hpp"
#include "krul/core/error.hpp"

namespace krul {

bool available(PanelPath path) noexcept {
  if (path == PanelPath::portable) return true;
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vnni");
#else
  return false;
#endif
}

PanelPath fastest_panel_path() noexcept {
  static const PanelPath fastest = available(PanelPath::avx512_vnni) ? PanelPath::avx512_vnni : PanelPath::portable;
  return fastest;
}

template <class At>
void Int8Panels::fill(At&& at) {
  expects(depth_ <= most_depth, "Int8Panels: too deep");
  words_.assign(panels() * quads() * width, 0);
  for (std::size_t column = 0; column < columns_; ++column) {
    std::uint32_t* to = words_.data() + column / width * quads() * width + column % width;
    for (std::size_t depth = 0; depth < depth_; ++depth)
      to[depth / 4 * width] |= static_cast<std::uint32_t>(at(depth, column) + 128) << depth % 4 * 8;
  }
}

Int8Panels::Int8Panels(std::size_t depth, std::size_t columns, std::span<const std::int8_t> values)
    : depth_(depth), columns_(columns) {
  expects(values.size() == depth * columns, "Int8Panels: the values are not [depth, columns]");
  fill([&](std::size_t row, std::size_t column) { return values[row * columns + column]; });
}

Int8Panels Int8Panels::transposed(std::size_t depth, std::size_t columns, std::span<const std::int8_t> values) {
  expects(values.size() == depth * columns, "Int8Panels: the values are not [columns, depth]");
  Int8Panels panels;
  panels.depth_ = depth;
  panels.columns_ = columns;
  panels.fill([&](std::size_t row, std::size_t column) { return values[column * depth + row]; });
  return panels;
}

namespace {

using detail::IntLanes, detail::Lanes, detail::lane_count, detail::load;

/// The last, partly filled lanes of a row; what lies beyond it is zero.
Lanes load_first(const float* from, std::size_t count) {
  Lanes values{};
  std::memcpy(&values, from, count * sizeof(float));
  return values;
}

/// In lanes, as the compiler may not change the order in which the largest of floats is found.
float largest_magnitude(const float* values, std::size_t depth) {
  Lanes largest{};
  const auto join = [&](Lanes these) {
    const Lanes magnitudes = these < 0 ? -these : these;
    largest = magnitudes > largest ? magnitudes : largest;
  };
  std::size_t i = 0;
  for (; i + lane_count <= depth; i += lane_count) join(load(values + i));
  if (i < depth) join(load_first(values + i, depth - i));
  float result = 0;
  for (std::size_t lane = 0; lane < lane_count; ++lane) result = std::max(result, largest[lane]);
  return result;
}

}  // namespace

Int8Rows::Int8Rows(std::size_t rows, std::size_t depth, std::span<const float> from, std::size_t stride)
    : rows_(rows),
      quads_((depth + 3) / 4),
      words_(padded_rows() * quads_),
      scales_(padded_rows()),
      excess_(padded_rows()) {
  if (stride == 0) stride = depth;
  expects(rows == 0 || (stride >= depth && from.size() >= (rows - 1) * stride + depth),
          "Int8Rows: the values are not [rows, depth]");
  for (std::size_t row = 0; row < rows; ++row) {
    const float* const values = from.data() + row * stride;
    const float largest = largest_magnitude(values, depth);
    if (largest < 1e-30F) continue;  // as good as zeros
    const float per_step = 127 / largest;
    auto* const to = reinterpret_cast<std::int8_t*>(words_.data() + row * quads_);
    IntLanes sums{};
    for (std::size_t i = 0; i < depth; i += lane_count) {
      const std::size_t count = std::min(lane_count, depth - i);
      const IntLanes rounded =
          detail::round_to_whole((count == lane_count ? load(values + i) : load_first(values + i, count)) * per_step);
      sums += rounded;
      const auto bytes = __builtin_convertvector(rounded, detail::ByteLanes);
      std::memcpy(to + i, &bytes, count);
    }
    std::int32_t sum = 0;
    for (std::size_t lane = 0; lane < lane_count; ++lane) sum += sums[lane];
    scales_[row] = largest / 127;
    excess_[row] = 128 * sum;
  }
}

namespace detail {

void multiply_portable(const Int8Rows& rows, const Int8Panels& panels, std::size_t count, float* out) {
  constexpr std::size_t width = Int8Panels::width;
  const std::size_t stride = count * width;
  for (std::size_t panel = 0; panel < count; ++panel) {
    const std::uint32_t* right = panels.panel(panel);
    for (std::size_t row = 0; row < rows.padded_rows(); ++row) {
      std::int32_t sums[width] = {};
      for (std::size_t quad = 0; quad < rows.quads(); ++quad) {
        const std::uint32_t left = rows.row(row)[quad];
        for (unsigned shift = 0; shift < 32; shift += 8) {
          const auto value = static_cast<std::int8_t>(left >> shift);
          for (std::size_t column = 0; column < width; ++column)
            sums[column] += value * static_cast<std::int32_t>(right[quad * width + column] >> shift & 0xffU);
        }
      }
      for (std::size_t column = 0; column < width; ++column)
        out[row * stride + panel * width + column] =
            rows.scale(row) * static_cast<float>(sums[column] - rows.excess(row));
    }
  }
}

}  // namespace detail

void multiply(const Int8Rows& rows, const Int8Panels& panels, std::span<float> out, PanelPath path) {
  const std::size_t of_panel = rows.padded_rows() * Int8Panels::width,
                    count = of_panel == 0 ? 0 : out.size() / of_panel;
  expects(
      rows.quads() <= panels.quads() && count <= panels.panels() && out.size() == count * of_panel && available(path),
      "multiply: the shapes do not fit together, or the path is not one of this processor");
  if (path == PanelPath::avx512_vnni) {
    detail::multiply_vnni(rows, panels, count, out.data());
  } else {
    detail::multiply_portable(rows, panels, count, out.data());
  }
}

}  // namespace krul
