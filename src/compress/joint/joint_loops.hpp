#pragma once

#include <cstddef>
#include <cstdint>

#include "krul/core/instruction_level.hpp"

namespace krul::detail {

/// Columns of a panel of Int8Panels, and of a band that are coded together.
inline constexpr std::size_t panel_width = 16;

/// Int8Rows as loops see them.
struct Int8RowsView {
  const std::uint32_t* words;    ///< [rows, quads] four int8 each
  std::size_t rows, quads;       ///< rows: whole Int8Rows::step
  const float* scales;           ///< [rows]
  const std::int32_t* excesses;  ///< [rows]
};

/// Leading panels of Int8Panels.
struct Int8PanelsView {
  const std::uint32_t* words;  ///< [panels, words_apart]
  std::size_t words_apart, panels;
  const float *scales, *offsets;  ///< [panels, 16]
};

/// A row of floats that becomes int8.
struct RoundedRow {
  std::int8_t* values;  ///< [depth]
  float scale = 0;
  std::int32_t excess = 0;  ///< 128 * sum of the values
};

/// A matrix of floats whose rows lie `stride` apart.
struct Floats {
  const float* values = nullptr;
  std::size_t stride = 0;
};
struct MutableFloats {
  float* values = nullptr;
  std::size_t stride = 0;
};
/// Rows and columns of a product, and what is summed up over.
struct ProductShape {
  std::size_t rows, columns, depth;
};
/// What becomes of what was there.
enum class Into : std::uint8_t { replaced, added, subtracted };

/// Sixteen columns of a band: which of them are coded, and what is expected of them.
struct BandPanel {
  std::size_t coded = 0;                                ///< how many are coded
  std::size_t lanes[panel_width] = {};                  ///< [coded] which they are
  alignas(64) std::int32_t is_coded[panel_width] = {};  ///< all bits set, or none
  alignas(64) float scales[panel_width] = {}, prediction_scales[panel_width] = {};
  const float* prediction = nullptr;                  ///< of the first row; null: nothing is predicted
  std::size_t stride = 0;                             ///< of the predictions
  const std::uint32_t* which = nullptr;               ///< [T] the prediction's row of each token
  const float *steps = nullptr, *per_step = nullptr;  ///< [T] of each token, and 1 / step
  float bit = 0;                                      ///< squared steps that a bit is worth; 0: all round to nearest
};

/// Where the heads of one token lie that are turned, and the angles.
struct TurnedHeads {
  float* values;  ///< [count, dim]
  std::size_t count, dim, pairs;
  bool interleaved;
  const float *cosines, *sines;  ///< [pairs]
};

/// The loops of the joint transform for one instruction level. Plain functions, chosen once.
///
/// Every level gives the same bits: whole numbers are exact, floats are added and multiplied in one order, and where a
/// product is added it is fused everywhere. What is coded is therefore the same on every processor.
struct JointLoops {
  InstructionLevel level;
  /// Rounds to 127 steps of the largest magnitude, to nearest even; what is below 1e-30 becomes zeros.
  void (*round_row)(const float* from, std::size_t depth, RoundedRow& to);
  std::size_t row_words;  ///< that multiply wants for each word of rows
  /// out [rows, panels * 16] = rows times panels, times each row's and column's scale, plus the column's offset.
  /// @param room  [rows, quads, row_words], not used if that is 1
  void (*multiply)(const Int8RowsView& rows, const Int8PanelsView& panels, std::uint32_t* room, float* out);
  /// left [rows, depth] * right [depth, columns], in f32; columns whole panels or any number
  void (*small_product)(Into how, const ProductShape& shape, Floats left, Floats right, MutableFloats to);
  /// scale * (step * symbol + prediction).
  /// @param symbols  [coded, T]
  void (*dequantise)(const BandPanel& panel, const std::int16_t* symbols, std::size_t tokens, MutableFloats to);
  /// The other way round: (scale * coefficient - prediction) / step, rounded to what is worth its bits: no further
  /// than three quarters of a step away.
  /// @param symbols   [coded, T]
  /// @param as_coded  [T] what dequantise will give, but for the scale; values may be null
  void (*quantise)(const BandPanel& panel, Floats coefficients, std::size_t tokens, std::int16_t* symbols,
                   MutableFloats as_coded);
  /// The rotary embedding, or its inverse.
  void (*turn)(const TurnedHeads& heads, bool back);
  /// to -= values; each [n].
  void (*subtract)(float* to, const float* values, std::size_t n);
};

/// There is a specialisation for each level that has code of its own.
template <InstructionLevel>
const JointLoops* joint_loops();
template <>
const JointLoops* joint_loops<InstructionLevel::portable>();
template <>
const JointLoops* joint_loops<InstructionLevel::avx2>();
template <>
const JointLoops* joint_loops<InstructionLevel::avx2_vnni>();
template <>
const JointLoops* joint_loops<InstructionLevel::avx512>();
template <>
const JointLoops* joint_loops<InstructionLevel::neon>();

[[nodiscard]] inline const JointLoops& joint_loops(InstructionLevel level) {
  using enum InstructionLevel;
  return *at_level<portable, avx2, avx2_vnni, avx512, neon>(
      level, []<InstructionLevel chosen>() { return joint_loops<chosen>(); });
}

}  // namespace krul::detail
