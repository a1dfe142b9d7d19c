#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "krul/core/instruction_level.hpp"
#include "krul/model/four_bit_block.hpp"
#include "krul/model/precision.hpp"

namespace krul::detail {

/// Columns that one call of a micro-kernel computes: two vectors of AVX-512.
inline constexpr std::size_t strip_columns = 32;

/// Values that share one scale, and that a Hadamard transform mixes before they are rounded.
inline constexpr std::size_t group_values = 64;

/// Groups whose largest value is no larger are rounded to zero: 127 divided by it might be infinite.
inline constexpr float smallest_scaled = 1e-30F;

/// One group of a row as int8 products take it: transformed values as multiples of `scale`.
/// Weights carry an offset of 128, because the instructions want one factor without a sign; `start` takes it out again.
struct Int8Group {
  using Value = std::int8_t;
  static constexpr std::size_t source(std::size_t i) { return i; }  ///< the input that values[i] is
  Value values[group_values];
  float scale;
  std::int32_t start;  ///< -128 * sum of the values
};

/// The same for products of 16 bits. Of four inputs, the first and the third lie together, and the second and the last:
/// so words are had from the bytes of four weights without shuffling.
struct Int16Group {
  using Value = std::int16_t;
  static constexpr std::size_t source(std::size_t i) { return i / 4 * 4 + i % 2 * 2 + i % 4 / 2; }
  Value values[group_values];
  float scale;
  std::int32_t start;  ///< -128 * sum of the values
};

/// One group of a row as products with weights of four bits take it. They keep the codes of their file, so rows are not
/// transformed either; each block of 32 inputs has a scale of its own.
struct FourBitRow {
  struct Block {
    std::int8_t values[four_bit_values];
    float scale;
    float sum;  ///< scale * sum of the values: what minima are multiplied with
  };
  Block blocks[group_values / four_bit_values];
};

/// Weights of four bits: 32 inputs of 16 columns.
struct FourBitWeights {
  static constexpr std::size_t columns = 16;
  std::uint8_t codes[four_bit_values / 4][8][4];  ///< of four inputs of a column: its lower half, and column + 8 above
  float scales[columns];
  float minima[columns];
};

/// A few rows times one strip of packed weights.
///
/// How a strip lies in memory, with d steps:
///   f32   [d][32] f32, a step is one input
///   bf16  [d][32][2] bf16, a step is two inputs; of rows, two f32 if the kernels widen
///   int8  [d][16][32][4] u8, a step is a group, then [32] f32: what the sums of each column are multiplied with
///   weights of four bits  [2][2 d] FourBitWeights, of columns 0 to 15 and 16 to 31; a step is a group
struct StripProduct {
  const std::byte* rows;
  std::size_t row_bytes;
  std::size_t count;  ///< rows; at most MicroKernels::rows
  const std::byte* strip;
  std::size_t steps;
  float* y;
  std::size_t stride;  ///< between two rows of y
  /// Weights that are brought near meanwhile, at `next`, which moves on by next_step bytes: 128 in each step of two
  /// vectors, with weights of four bits 64 for each line that is read, and less where several tiles share the fetching.
  const std::byte* next;
  std::size_t next_step;
};

/// The innermost loops for one precision and one instruction level. Plain functions, chosen once.
///
/// Every sum runs over the steps in their order, whatever the number of rows, so a row's bits do not depend on the
/// rows beside it.
struct MicroKernels {
  InstructionLevel level;
  std::size_t rows;        ///< most that one call takes
  std::size_t step_bytes;  ///< of a row in a step
  bool widens = false;     ///< bf16 in rows lie as f32, and products are those of f32
  void (*multiply)(const StripProduct&);
  /// int8: one group of values, rounded (and transformed before, but for weights of four bits), to step_bytes at `to`.
  void (*quantise)(const float* values, std::byte* to) = nullptr;
  /// Does nothing but products, on registers; returns how many operations those were.
  double (*multiply_registers)(std::size_t rounds);
  /// int8: those for weights of four bits, where keeping their codes is faster. They take as many rows at once, and no
  /// more bytes for a step of a row.
  const MicroKernels* four_bits = nullptr;
};

/// There is a specialisation for each level that has code of its own for a precision.
template <Precision, InstructionLevel>
const MicroKernels* micro_kernels();

template <>
const MicroKernels* micro_kernels<Precision::f32, InstructionLevel::portable>();
template <>
const MicroKernels* micro_kernels<Precision::f32, InstructionLevel::avx2>();
template <>
const MicroKernels* micro_kernels<Precision::f32, InstructionLevel::avx512>();
template <>
const MicroKernels* micro_kernels<Precision::f32, InstructionLevel::neon>();
template <>
const MicroKernels* micro_kernels<Precision::bf16, InstructionLevel::portable>();
template <>
const MicroKernels* micro_kernels<Precision::bf16, InstructionLevel::avx2>();
template <>
const MicroKernels* micro_kernels<Precision::bf16, InstructionLevel::avx512>();
template <>
const MicroKernels* micro_kernels<Precision::bf16, InstructionLevel::avx512_bf16>();
template <>
const MicroKernels* micro_kernels<Precision::bf16, InstructionLevel::neon>();
template <>
const MicroKernels* micro_kernels<Precision::int8, InstructionLevel::portable>();
template <>
const MicroKernels* micro_kernels<Precision::int8, InstructionLevel::avx2>();
template <>
const MicroKernels* micro_kernels<Precision::int8, InstructionLevel::avx2_vnni>();
template <>
const MicroKernels* micro_kernels<Precision::int8, InstructionLevel::avx512>();
template <>
const MicroKernels* micro_kernels<Precision::int8, InstructionLevel::neon>();

}  // namespace krul::detail
