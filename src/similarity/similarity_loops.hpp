#pragma once

#include <cstddef>
#include <cstdint>

#include "krul/core/instruction_level.hpp"

namespace krul::detail {

/// Lanes in which sums over bins of keys are kept.
inline constexpr std::size_t bin_lanes = 16;

/// A layer's weights in a cell.
struct CellRow {
  const std::uint16_t* values;  ///< [count] bf16
  std::size_t layer;
  float factor;
};

/// The layers of a cell that count, and where their inner products go.
struct GramCell {
  const CellRow* rows;  ///< [n]
  std::size_t n;
  std::size_t count;    ///< values of each row, whole row units
  const float* scales;  ///< [n, layers] of the products, by place in rows
  std::size_t layers;
  const std::uint16_t* ahead;  ///< the next cell, if there is one: it will be needed soon
  float* sums;                 ///< [layers, layers, lanes]
};

/// The loops of the estimators for one instruction level. Plain functions, chosen once.
struct SimilarityLoops {
  InstructionLevel level;
  std::size_t lanes;  ///< of the sums of a GramCell
  /// Adds the products of all pairs of rows to their sums, on the diagonal and above.
  void (*multiply_cell)(const GramCell& cell);
  /// The sum over the lanes of one pair.
  float (*sum_of_lanes)(const float* lanes);
  /// Rounds weights, which are neither negative nor NaN, to bf16, to nearest even. Past the processor's caches, if
  /// there is such a way, as nobody reads them soon.
  /// @param from  [n]
  /// @param to    [count], count >= n in row units; what has no weight becomes 0; aligned to 64 bytes
  void (*pack_weights)(const float* from, std::size_t n, std::size_t count, std::uint16_t* to);
  /// Makes what pack_weights wrote visible to a thread that is told of it afterwards.
  void (*finish_packing)();
  /// Adds [n] weights to the sums of their bins.
  /// @param sums  [bins, bin_lanes]
  void (*add_to_bins)(const float* weights, std::size_t n, float* sums);
  /// to += sign * signs * weights; each [n].
  void (*add_signed)(const float* weights, const float* signs, float sign, std::size_t n, float* to);
  /// Of [n] values each; in f32 over short runs, in double over runs.
  double (*squared_distance)(const float* a, const float* b, std::size_t n);
};

/// There is a specialisation for each level that has code of its own.
template <InstructionLevel>
const SimilarityLoops* similarity_loops();
template <>
const SimilarityLoops* similarity_loops<InstructionLevel::portable>();
template <>
const SimilarityLoops* similarity_loops<InstructionLevel::avx2>();
template <>
const SimilarityLoops* similarity_loops<InstructionLevel::avx512>();
template <>
const SimilarityLoops* similarity_loops<InstructionLevel::avx512_bf16>();
template <>
const SimilarityLoops* similarity_loops<InstructionLevel::neon>();

[[nodiscard]] inline const SimilarityLoops& similarity_loops(InstructionLevel level) {
  using enum InstructionLevel;
  return *at_level<portable, avx2, avx512, avx512_bf16, neon>(
      level, []<InstructionLevel chosen>() { return similarity_loops<chosen>(); });
}

}  // namespace krul::detail
