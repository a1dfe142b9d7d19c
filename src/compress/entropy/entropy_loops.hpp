#pragma once

#include <cstddef>
#include <cstdint>

#include "encode_state.hpp"
#include "krul/compress/entropy/detail/decode_state.hpp"
#include "krul/core/instruction_level.hpp"

namespace krul::detail {

/// What a stream's state never falls below between symbols; it begins and ends with it.
inline constexpr std::uint32_t lowest_state = 1U << 16;

/// A column of symbols on its way into an encoder.
struct EncodedColumn {
  const std::int16_t* symbols;  ///< [tokens]
  std::size_t tokens;
};

/// What symbols of a column cost with neighbouring tables.
struct ColumnCosts {
  const std::uint32_t* of_symbol;  ///< [2 * dense + 1, stride] of the symbols from -dense up; the last row is zeros
  std::size_t stride;
  int dense;
  std::size_t vectors;  ///< of 16 costs each that are summed up
};

/// The loops of the entropy coder for one instruction level. Plain functions, chosen once. All levels give the same
/// bytes, the same symbols and the same errors.
struct EntropyLoops {
  InstructionLevel level;
  /// @param out  [tokens]; the words may be anything
  DecodeOutcome (*decode_column)(DecodeState& state, const AliasTable& table, std::size_t tokens, std::int16_t* out);
  /// @pre state.words has room for EncodeState::step_words for each step of the column
  void (*encode_column)(EncodeState& state, const EncodeTable& table, const EncodedColumn& column);
  /// @param sums  [vectors, 16], overwritten
  /// @return      whether there are symbols outside of [-dense, dense), which cost nothing here
  bool (*add_costs)(const ColumnCosts& costs, const EncodedColumn& column, std::uint32_t* sums);
};

/// There is a specialisation for each level that has code of its own.
template <InstructionLevel>
const EntropyLoops* entropy_loops();
template <>
const EntropyLoops* entropy_loops<InstructionLevel::portable>();
template <>
const EntropyLoops* entropy_loops<InstructionLevel::avx2>();
template <>
const EntropyLoops* entropy_loops<InstructionLevel::avx512>();
template <>
const EntropyLoops* entropy_loops<InstructionLevel::neon>();

[[nodiscard]] inline const EntropyLoops& entropy_loops(InstructionLevel level) {
  using enum InstructionLevel;
  return *at_level<portable, avx2, avx512, neon>(level,
                                                 []<InstructionLevel chosen>() { return entropy_loops<chosen>(); });
}

}  // namespace krul::detail
