#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace krul {

/// Shape of a block of symbols, and how the bytes of one or several of them are laid out.
///
/// Symbols are [C, T], int16: the T tokens of column 0, those of column 1, ... All tokens of a column use the same
/// table. The symbol of token t belongs to rANS stream t mod 32; there are min(T, 32) streams with states of 32 bits in
/// [2^16, 2^32), renormalised by words of 16 bits from one sequence. Coded bytes, little-endian:
///
///   states  [min(T, 32)] x 4 bytes, in the order of streams: 0, 2, 4, ..., 30, 1, 3, ..., 31, as far as they exist
///   words   [...] x 2 bytes, in the order in which a decoder takes them
///
/// A decoder goes through the columns (those of table 0 are zeros and take nothing) in steps of 32 tokens. A step
/// takes, always in the order of streams: the symbol of each stream, each followed by at most one word; then, if the
/// table has a shift, its low bits likewise; then stream by stream what follows an escape: four bits, then n
/// (SymbolTable). At the end every state is 2^16 again and no word is left, which also finds most damage.
///
/// Several blocks may follow each other in the same streams: there are then as many streams as the block with the most
/// tokens wants.
///
/// This order (even tokens, then odd ones) makes two vectors of 32 bits the halves of one of 16 bits without a shuffle.
///
/// @source interleaving: F. Giesen, arXiv:1402.3392 (second-hand); order of streams: ours
struct SymbolBlock {
  std::size_t columns = 0;  ///< C
  std::size_t tokens = 0;   ///< T

  static constexpr std::size_t most_streams = 32;
  [[nodiscard]] constexpr std::size_t symbols() const noexcept { return columns * tokens; }
  /// None if there is nothing to code.
  [[nodiscard]] constexpr std::size_t streams() const noexcept {
    return symbols() == 0 ? 0 : std::min(tokens, most_streams);
  }
};

}  // namespace krul
