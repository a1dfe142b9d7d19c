#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "krul/compress/entropy/detail/alias_table.hpp"

namespace krul::detail {

/// Where a decoder stands between two columns: states and the place in the words. What loops call is always inlined, as
/// they are compiled for other instructions than the rest.
///
/// Kernels take words without looking; they only make sure before each step that no more than the step can take lies
/// ahead. The last words are therefore moved to `tail`, which goes on with zeros, and a place beyond their end means
/// that the bytes were too few.
struct DecodeState {
  /// Bytes that a step of 32 symbols may take at most: a word for each symbol, its low bits, and both parts of an
  /// escape.
  static constexpr std::size_t step_bytes = 4 * 32 * 2;
  static constexpr std::size_t tail_room = 2 * step_bytes + 64;  ///< and as far as a vector load looks ahead

  std::array<std::uint32_t, 32> streams{};  ///< in the order of streams
  std::span<const std::byte> words;         ///< all words, until the last ones are in tail
  std::size_t at = 0;                       ///< bytes of `words`, or of `tail`, that are taken
  std::size_t tail_size = 0;
  bool in_tail = false;
  std::array<std::byte, tail_room> tail{};

  /// Before each step: at least step_bytes, of words or of zeros, are ahead.
  /// @return false if more was taken than there was
  [[gnu::always_inline]] bool prepare_step() noexcept {
    if (in_tail) return at <= tail_size;
    if (words.size() - at >= step_bytes) return true;
    tail_size = words.size() - at;
    for (std::size_t i = 0; i < tail_size; ++i) tail[i] = words[at + i];
    at = 0;
    in_tail = true;
    return true;
  }

  [[nodiscard, gnu::always_inline]] const std::byte* base() const noexcept {
    return in_tail ? tail.data() : words.data();
  }
  [[nodiscard]] std::size_t size() const noexcept { return in_tail ? tail_size : words.size(); }
  [[nodiscard]] bool at_end() const noexcept { return at == size(); }
};

enum class DecodeOutcome : std::uint8_t { sound, truncated, bad_symbol };

}  // namespace krul::detail
