#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "krul/compress/entropy/symbol_encoder.hpp"

namespace krul {

/// The index of each column for fewest bits, those that `encode_tables` will take included. Where a column's best index
/// is near the predicted one, only those around it are priced.
/// @param symbols    [C, T]
/// @param predicted  [C], what a profile expects
/// @return [C]
/// @throws PreconditionError if a length does not fit or a prediction is not in the set
[[nodiscard]] std::vector<std::uint8_t> choose_tables(const SymbolEncoder& encoder, SymbolBlock block,
                                                      std::span<const std::int16_t> symbols,
                                                      std::span<const std::uint8_t> predicted);

/// Some tokens of a block whose symbols are all coarser by a known factor: a column that is coded with table i
/// elsewhere is coded with table i + shift here.
struct ShiftedSymbols {
  SymbolBlock block;
  std::span<const std::int16_t> symbols;  ///< [C, T]
  std::span<const std::uint32_t> column;  ///< [C] which of the predicted ones each is, ascending
  int shift = 0;
};

/// The index that a column is coded with where its own is `index`: moved, but a table as long as that is one.
[[nodiscard]] std::uint8_t shifted_table(std::uint8_t index, int shift, std::size_t size) noexcept;

/// The same for a block that is coded in parts: an index serves a column of all of them.
/// @return [predicted.size()]
/// @throws PreconditionError as choose_tables, or if a part has a column that is not predicted
[[nodiscard]] std::vector<std::uint8_t> choose_tables(const SymbolEncoder& encoder,
                                                      std::span<const ShiftedSymbols> parts,
                                                      std::span<const std::uint8_t> predicted);

/// Codes indices as differences from what was predicted. One byte says which of a few fixed tables codes them.
/// @param indices    [C], each below 64
/// @param predicted  [C], each below 64; the decoder has to know them
/// @return one byte if every prediction holds; else 17 bytes and the code of the differences
/// @throws PreconditionError if the lengths differ or a value is 64 or more
[[nodiscard]] std::vector<std::byte> encode_tables(std::span<const std::uint8_t> indices,
                                                   std::span<const std::uint8_t> predicted);

/// @param out  [C], each below `size`
/// @return corrupt or truncated if these bytes are no such indices, or one is `size` or more
/// @throws PreconditionError if the lengths differ
[[nodiscard]] Status decode_tables(std::span<const std::byte> bytes, std::span<const std::uint8_t> predicted,
                                   std::size_t size, std::span<std::uint8_t> out);

}  // namespace krul
