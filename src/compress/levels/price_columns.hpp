#pragma once

#include "../../levels/lanes.hpp"
#include "../entropy/entropy_loops.hpp"

namespace krul::detail {
namespace {

/// Sums stay in registers. What lies beyond the last index is added and forgotten.
template <std::size_t Vectors>
bool add_costs_of(const ColumnCosts& costs, const EncodedColumn& column, std::uint32_t* sums) {
  constexpr std::size_t parts = Vectors * 16 / lane_count;
  BitLanes totals[parts] = {};
  bool far = false;
  for (std::size_t token = 0; token < column.tokens; ++token) {
    const int symbol = column.symbols[token];
    const bool at_hand = symbol >= -costs.dense && symbol < costs.dense;
    far |= !at_hand;
    const auto row = static_cast<std::size_t>((at_hand ? symbol : costs.dense) + costs.dense);
    const std::uint32_t* const of_symbol = costs.of_symbol + row * costs.stride;
#pragma GCC unroll 16
    for (std::size_t i = 0; i < parts; ++i) {
      BitLanes part;
      __builtin_memcpy(&part, of_symbol + i * lane_count, sizeof part);
      totals[i] += part;
    }
  }
  __builtin_memcpy(sums, totals, sizeof totals);
  return far;
}

bool add_costs(const ColumnCosts& costs, const EncodedColumn& column, std::uint32_t* sums) {
  return costs.vectors == 1 ? add_costs_of<1>(costs, column, sums) : add_costs_of<4>(costs, column, sums);
}

}  // namespace
}  // namespace krul::detail
