// The sums of products of KvMoments by the compilers' vector extension.
#include "../moment_loops.hpp"

#include "../../levels/lanes.hpp"

namespace krul::detail {
namespace {

constexpr std::size_t columns = tile_vectors * lane_count, tile_rows = 4;
static_assert(columns % tile_rows == 0);

/// The sums of some of the left panel's columns, in registers.
void add_tile(const PanelProduct& product, std::size_t first) {
  Lanes sums[tile_rows][tile_vectors] = {};
  for (std::size_t token = 0; token < product.tokens; ++token) {
    const float* const left = product.left + token * columns + first;
    const float* const right = product.right + token * columns;
    Lanes values[tile_vectors];
    for (std::size_t v = 0; v < tile_vectors; ++v) values[v] = load(right + v * lane_count);
    for (std::size_t row = 0; row < tile_rows; ++row)
      for (std::size_t v = 0; v < tile_vectors; ++v) sums[row][v] = multiply_add(values[v], left[row], sums[row][v]);
  }
  for (std::size_t row = 0; row < tile_rows && first + row < product.rows; ++row) {
    float line[columns];
    for (std::size_t v = 0; v < tile_vectors; ++v) store(sums[row][v], line + v * lane_count);
    float* const to = product.sums + (first + row) * product.stride;
    for (std::size_t column = 0; column < product.columns; ++column) to[column] += line[column];
  }
}

void add_product(const PanelProduct& product) {
  for (std::size_t first = 0; first < product.rows; first += tile_rows) add_tile(product, first);
}

constexpr MomentLoops loops{
    .level = InstructionLevel::KRUL_LEVEL, .panel_columns = columns, .add_product = add_product};

}  // namespace

template <>
const MomentLoops* moment_loops<InstructionLevel::KRUL_LEVEL>() {
  return &loops;
}

}  // namespace krul::detail
