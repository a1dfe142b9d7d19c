#include "krul/compress/joint/int8_panels.hpp"

#include <algorithm>
#include <cmath>
#include <memory>

#include "joint_loops.hpp"
#include "krul/core/error.hpp"

namespace krul {

static_assert(detail::panel_width == Int8Panels::width);

template <class At>
void Int8Panels::fill(At&& at) {
  expects(depth_ <= most_depth, "Int8Panels: too deep");
  scales_.assign(panels() * width, 1);
  offsets_.assign(panels() * width, 0);
  words_.assign(panels() * quads() * width, 0);
  if (words_.empty()) return;
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

Int8Panels Int8Panels::rounded(std::size_t depth, std::size_t columns, std::span<const float> values,
                               std::span<const float> offsets) {
  expects(values.size() == depth * columns && offsets.size() == columns,
          "Int8Panels: the values are not [depth, columns], or the offsets not [columns]");
  std::vector<float> most(columns);
  for (std::size_t i = 0; i < values.size(); ++i) most[i % columns] = std::max(most[i % columns], std::abs(values[i]));
  std::vector<std::int8_t> steps(values.size());
  for (std::size_t i = 0; i < values.size(); ++i)
    if (const float of_column = most[i % columns]; of_column > 0)
      steps[i] = static_cast<std::int8_t>(std::nearbyint(values[i] / of_column * 127));
  Int8Panels panels(depth, columns, steps);
  for (std::size_t column = 0; column < columns; ++column) panels.scales_[column] = most[column] / 127;
  std::copy(offsets.begin(), offsets.end(), panels.offsets_.begin());
  return panels;
}

Int8Rows::Int8Rows(std::size_t rows, std::size_t depth, std::span<const float> from, std::size_t stride)
    : rows_(rows),
      quads_((depth + 3) / 4),
      words_(padded_rows() * quads_),
      scales_(padded_rows()),
      excess_(padded_rows()) {
  if (stride == 0) stride = depth;
  expects(rows == 0 || (stride >= depth && from.size() >= (rows - 1) * stride + depth),
          "Int8Rows: the values are not [rows, depth]");
  const auto& loops = detail::joint_loops(instruction_level());
  for (std::size_t row = 0; row < rows; ++row) {
    detail::RoundedRow to{reinterpret_cast<std::int8_t*>(words_.data() + row * quads_)};
    loops.round_row(from.data() + row * stride, depth, to);
    scales_[row] = to.scale;
    excess_[row] = to.excess;
  }
}

void multiply(const Int8Rows& rows, const Int8Panels& panels, std::span<float> out, InstructionLevel level) {
  const std::size_t of_panel = rows.padded_rows() * Int8Panels::width,
                    count = of_panel == 0 ? 0 : out.size() / of_panel;
  expects(rows.quads() <= panels.quads() && count <= panels.panels() && out.size() == count * of_panel,
          "multiply: the shapes do not fit together");
  if (count == 0) return;
  const auto& loops = detail::joint_loops(level);
  const std::size_t words = rows.padded_rows() * rows.quads();
  const auto room = std::make_unique_for_overwrite<std::uint32_t[]>(loops.row_words > 1 ? words * loops.row_words : 0);
  loops.multiply({rows.row(0), rows.padded_rows(), rows.quads(), rows.scales(), rows.excesses()},
                 {panels.panel(0), panels.quads() * Int8Panels::width, count, panels.scales(), panels.offsets()},
                 room.get(), out.data());
}

}  // namespace krul
