#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "krul/compress/entropy/symbol_table.hpp"

namespace krul::detail {

/// A SymbolTable as a decoder uses it: Walker's alias method over rANS slots.
///
/// The 2^14 slots form 64 buckets of 256. The slots of bucket b below divider[b] belong to symbol b (q = b - reach, or
/// the escape), the others to symbol alias[b]. So a symbol is found by one comparison and look-ups in arrays of 64
/// words, which fit two registers of AVX-512 or the shared memory of a GPU, whatever the frequencies are.
/// The offset of a slot within its symbol is slot - 256 b below the divider, slot - bias[b] (modulo 2^16) above it.
///
/// @source A. J. Walker 1977 (second-hand); with rANS: F. Giesen's notes (second-hand); order of filling: ours
struct alignas(64) AliasTable {
  static constexpr std::size_t buckets = 64;
  static constexpr unsigned bucket_bits = 8;
  using Words = std::array<std::uint16_t, buckets>;

  explicit AliasTable(const SymbolTable& table);

  Words divider;          ///< first slot that is not of symbol b; 256 b .. 256 (b + 1)
  Words alias;            ///< symbol of the slots from there
  Words bias;             ///< see above
  Words own_frequency;    ///< of symbol b
  Words alias_frequency;  ///< of alias[b]
  std::uint16_t reach;
  std::uint16_t shift;
};

}  // namespace krul::detail
