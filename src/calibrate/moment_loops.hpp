#pragma once

#include <cstddef>

#include "krul/core/instruction_level.hpp"

namespace krul::detail {

/// Two panels of columns, and the sums over tokens of the products of each column of one with each of the other.
struct PanelProduct {
  const float* left;   ///< [tokens, panel_columns]
  const float* right;  ///< [tokens, panel_columns]
  std::size_t tokens;
  std::size_t rows;     ///< columns of the left panel that count
  std::size_t columns;  ///< of the right panel that count
  float* sums;          ///< [rows, columns], what is added to
  std::size_t stride;   ///< of the sums' rows
};

/// The loop of KvMoments for one instruction level. A plain function, chosen once.
struct MomentLoops {
  InstructionLevel level;
  std::size_t panel_columns;
  void (*add_product)(const PanelProduct& product);
};

/// There is a specialisation for each level that has code of its own.
template <InstructionLevel>
const MomentLoops* moment_loops();
template <>
const MomentLoops* moment_loops<InstructionLevel::portable>();
template <>
const MomentLoops* moment_loops<InstructionLevel::avx2>();
template <>
const MomentLoops* moment_loops<InstructionLevel::avx512>();
template <>
const MomentLoops* moment_loops<InstructionLevel::neon>();

[[nodiscard]] inline const MomentLoops& moment_loops(InstructionLevel level) {
  using enum InstructionLevel;
  return *at_level<portable, avx2, avx512, neon>(level,
                                                 []<InstructionLevel chosen>() { return moment_loops<chosen>(); });
}

}  // namespace krul::detail
