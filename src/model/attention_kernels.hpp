#pragma once

#include <cstddef>
#include <cstdint>

#include "krul/core/element_type.hpp"
#include "krul/core/instruction_level.hpp"

namespace krul::detail {

// Operands of attention's two products lie in units of 32 bits: an f32, or a pair of bf16 that are neighbours along the
// sum. So both arithmetics share their layouts.

/// The largest of no scores.
inline constexpr float lowest_score = -3.4e38F;

/// Rows of a group at most.
inline constexpr std::size_t most_group_rows = 32;

constexpr std::size_t up_to_whole(std::size_t value, std::size_t unit) {
  return (value + unit - 1) / unit * unit;
}

/// The rows of one KV head within the cache.
struct HeadRows {
  const std::byte* first;  ///< [dim] values of the first row wanted
  std::size_t stride;      ///< bytes from row to row
  std::size_t count;       ///< rows that are there
  std::size_t dim;
};

/// The queries of a tile that look at one KV head.
struct QueryRows {
  const float* first;  ///< [count / heads, stride], of each row `heads` times `dim` values
  std::size_t stride;
  std::size_t heads;
  std::size_t count;
  std::size_t dim;
};

/// The scores of a group of queries with the keys of a block, and the weights that come of them.
struct ScoreGroup {
  std::size_t vectors;         ///< of queries, 1 or 2; the others' lanes are left alone
  const std::int32_t* limits;  ///< [group rows] how many of the block's keys each query sees
  std::size_t seen_by_all;     ///< the least of these
  std::size_t keys;            ///< the largest of these, up to whole cell units
  float scale;
  float* scores;          ///< [keys, group rows]
  std::int32_t* weights;  ///< [keys / pack, group rows] units
  float* tops;            ///< [group rows] largest visible score, scaled; lowest_score if none is visible
  float* sums;            ///< [group rows] of the weights
};

/// Keys [begin, end) of a block, and the queries that they are multiplied with.
struct ScoreOperands {
  const std::int32_t* keys;  ///< [block's keys, stride] units
  std::size_t stride;
  const std::int32_t* queries;  ///< [dim_units, group rows] units
  std::size_t dim_units;
  std::size_t begin, end;
};

/// Weights of a group times values of a block.
struct WeightedSum {
  const std::int32_t* weights;  ///< [units of seen, group rows]
  const std::int32_t* values;   ///< [units of seen, columns]
  std::size_t seen;             ///< keys
  std::size_t rows;
  std::size_t columns;  ///< whole vectors
  float* out;           ///< [rows, columns]
};

/// Partial results of some rows.
struct Partials {
  float* values;  ///< [rows, columns] weighted values
  float* tops;    ///< [rows up to whole vectors] largest scores
  float* sums;    ///< [rows up to whole vectors] sums of weights
};

/// The innermost loops of attention for one instruction level and one arithmetic. Plain functions, chosen once.
/// A group is two vectors of queries, one query in each lane, so that softmax needs no sums across lanes.
///
/// Every sum has one order, whatever the number of rows, so a row's bits do not depend on the rows beside it.
struct AttentionKernels {
  InstructionLevel level;
  ElementType arithmetic;  ///< of the products' operands
  std::size_t lanes;
  std::size_t group_rows;   ///< two vectors
  std::size_t pack;         ///< values in a unit
  std::size_t tile_height;  ///< keys that score takes at once

  /// Queries in lanes.
  /// @param dim_units  whole vectors
  /// @param to         [groups, dim_units, group rows] units
  void (*load_queries)(const QueryRows& rows, std::size_t dim_units, std::int32_t* to);
  /// @param to  [count, dim_units] units; 0 for rows that there are not
  void (*unpack_keys)(ElementType type, const HeadRows& rows, std::size_t count, std::size_t dim_units,
                      std::int32_t* to);
  /// @param to  [units of rows.count, padded_dim] units
  void (*unpack_values)(ElementType type, const HeadRows& rows, std::size_t padded_dim, std::int32_t* to);
  /// Scores of some keys. From the last of them on tops are scaled; before, they are what was found so far.
  void (*score)(const ScoreGroup& group, const ScoreOperands& operands);
  /// The weights e^(scale * score - top) of what a query sees, 0 for the others, as units, and their sums.
  /// @param keep  they take the scores' place too
  void (*soften)(const ScoreGroup& group, bool keep);
  void (*weigh)(const WeightedSum& sum);
  /// Rows of their own for the queries of a group.
  /// @param from  [count, group rows] units, count whole vectors
  /// @param to    [rows up to whole vectors, stride] units
  void (*transpose)(const std::int32_t* from, std::size_t count, std::size_t rows, std::size_t stride,
                    std::int32_t* to);
  /// Writes weights to a lent cell. Where nobody reads them soon, past the processor's caches if there is such a way.
  /// @param units  [count] weights as units, count whole cell units
  void (*lend_weights)(const std::int32_t* units, std::size_t count, bool read_soon, std::uint16_t* to);
  /// Sums of the weights of each bin of a cell.
  void (*sum_bins)(const std::int32_t* units, std::size_t count, float* bins);
  /// Joins the results of a later block to those of earlier ones; rows that see none of its keys are left.
  void (*join)(const Partials& state, const Partials& later, std::size_t rows, std::size_t columns);
  /// Scores, not yet scaled, become weights whose sum is 1.
  void (*softmax)(float* scores, std::size_t count, float scale);
};

/// There is a specialisation for each level that has code of its own: in bf16 for avx512_bf16, in f32 for the others.
template <InstructionLevel>
const AttentionKernels* attention_kernels();

template <>
const AttentionKernels* attention_kernels<InstructionLevel::portable>();
template <>
const AttentionKernels* attention_kernels<InstructionLevel::avx2>();
template <>
const AttentionKernels* attention_kernels<InstructionLevel::avx512>();
template <>
const AttentionKernels* attention_kernels<InstructionLevel::avx512_bf16>();
template <>
const AttentionKernels* attention_kernels<InstructionLevel::neon>();

}  // namespace krul::detail
