#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "krul/compress/entropy/detail/alias_table.hpp"

namespace krul::detail {

/// A SymbolTable as an encoder uses it: the other way round through an AliasTable.
struct alignas(64) EncodeTable {
  EncodeTable(const SymbolTable& symbols, const AliasTable& alias);

  /// What frequencies are inverted to: a multiplication in place of a division.
  static constexpr unsigned inverse_bits = 64 - 18;

  AliasTable::Words frequency{};  ///< of symbol i = q + reach, and of the escape; 1 where there is none
  AliasTable::Words begin{};      ///< where the slots of symbol i begin in `slots`
  std::array<std::uint64_t, AliasTable::buckets> inverse{};  ///< 2^46 / frequency
  std::vector<std::uint16_t> slots;  ///< [2^14 + 1]: slot of each offset, symbol after symbol; the last is not used
  std::uint16_t reach;
  std::uint16_t shift;
};

}  // namespace krul::detail
