#pragma once

#include <cstddef>
#include <cstdint>

#include "krul/model/precision.hpp"

namespace krul::detail {

/// Columns that one call of a micro-kernel computes: two vectors of AVX-512.
inline constexpr std::size_t strip_columns = 32;

/// Values that share one scale, and that a Hadamard transform mixes before they are rounded.
inline constexpr std::size_t group_values = 64;

/// Groups whose largest value is no larger are rounded to zero: 127 divided by it might be infinite.
inline constexpr float smallest_scaled = 1e-30F;

/// One group of a row as int8 products take it: transformed values as multiples of `scale`.
/// Weights carry an offset of 128, because the instruction wants one factor without a sign; `start` takes it out again.
struct Int8Group {
  std::int8_t values[group_values];
  float scale;
  std::int32_t start;  ///< -128 * sum of the values
};

/// A few rows times one strip of packed weights.
///
/// How a strip lies in memory, with d steps:
///   f32   [d][32] f32, a step is one input
///   bf16  [d][32][2] bf16, a step is two inputs; of rows, two f32 if the kernels widen
///   int8  [d][16][32][4] u8, a step is a group, then [32] f32: what the sums of each column are multiplied with
struct StripProduct {
  const std::byte* rows;
  std::size_t row_bytes;
  std::size_t count;  ///< rows; at most MicroKernels::rows
  const std::byte* strip;
  std::size_t steps;
  float* y;
  std::size_t stride;  ///< between two rows of y
  /// Weights that are brought near meanwhile: two vectors' worth at `next` in each step of two vectors, which then
  /// moves on by next_step bytes.
  const std::byte* next;
  std::size_t next_step;
};

/// The innermost loops for one precision and one set of instructions. Plain functions, chosen once.
///
/// Every sum runs over the steps in their order, whatever the number of rows, so a row's bits do not depend on the
/// rows beside it.
struct MicroKernels {
  const char* instructions;
  std::size_t rows;  ///< most that one call takes
  bool widens;       ///< bf16 in rows lie as f32, and products are those of f32
  void (*multiply)(const StripProduct&);
  /// One group of values, transformed and rounded. All sets of instructions give the same bits.
  void (*quantise)(const float* values, Int8Group& group);
  /// Does nothing but products, on registers; returns how many operations those were.
  double (*multiply_registers)(std::size_t rounds);
};

/// None if this build or this processor has not the instructions.
/// @{
[[nodiscard]] const MicroKernels* avx512_micro_kernels(Precision precision);
[[nodiscard]] const MicroKernels* avx512_widening_micro_kernels();  ///< for bf16
[[nodiscard]] const MicroKernels* avx2_micro_kernels(Precision precision);
/// @}
[[nodiscard]] const MicroKernels* portable_micro_kernels(Precision precision);

}  // namespace krul::detail
