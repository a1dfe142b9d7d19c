#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "krul/compress/entropy/detail/encode_table.hpp"

namespace krul::detail {

/// Words, written from the last to the first.
class BackwardWords {
 public:
  explicit BackwardWords(std::size_t room) { grow(room); }

  /// Room for `words` more ones.
  void reserve(std::size_t words) {
    if (static_cast<std::size_t>(first_ - room_.get()) < words) grow(2 * size_ + words);
  }
  /// Takes the low word off a state that would not fit after a push that multiplies it by 2^32 / limit.
  [[gnu::always_inline]] std::uint32_t lower(std::uint32_t state, std::uint64_t limit) noexcept {
    const bool full = state >= limit;
    first_[-1] = static_cast<std::uint16_t>(state);
    first_ -= full;
    return state >> (full ? 16 : 0);
  }
  /// Where `words` more ones are to be written, for which there must be room.
  [[gnu::always_inline]] std::uint16_t* take(std::size_t words) noexcept { return first_ -= words; }
  [[nodiscard]] std::span<const std::uint16_t> words() const noexcept {
    return {first_, static_cast<std::size_t>(room_.get() + size_ - first_)};
  }

 private:
  void grow(std::size_t size) {
    auto room = std::make_unique_for_overwrite<std::uint16_t[]>(size);
    const auto used = room_ ? words() : std::span<const std::uint16_t>{};
    std::uint16_t* first = room.get() + size - used.size();
    std::copy(used.begin(), used.end(), first);
    room_ = std::move(room);
    size_ = size;
    first_ = first;
  }

  std::unique_ptr<std::uint16_t[]> room_;
  std::size_t size_ = 0;
  std::uint16_t* first_ = nullptr;
};

/// Where an encoder stands: it goes from a block's end to its beginning.
struct EncodeState {
  static constexpr std::size_t step = 32;  ///< symbols, one for each stream
  /// A word for each symbol, its low bits, and both parts of an escape.
  static constexpr std::size_t step_words = 4 * step;

  std::array<std::uint32_t, 32> streams{};  ///< 16 for tokens of even number in a step, then 16 for odd ones
  BackwardWords words;
};

// Internal to each file that includes this, as they are compiled for other instructions.
namespace {

/// Calls visit(stream, token) for the tokens of a step, in the order of streams and backwards.
template <class Visit>
void backwards(std::size_t tokens, Visit&& visit) {
  for (std::size_t i = tokens / 2; i-- > 0;) visit(16 + i, 2 * i + 1);
  for (std::size_t i = (tokens + 1) / 2; i-- > 0;) visit(i, 2 * i);
}

/// Pushes `count` >= 1 bits as they are.
inline void push_bits(std::uint32_t& state, std::uint32_t bits, unsigned count, BackwardWords& words) noexcept {
  state = words.lower(state, std::uint64_t{1} << (32 - count)) << count | bits;
}

/// What follows the escapes of a step, that is of symbols beyond the table's reach.
/// @param symbols  [count]
inline void push_escapes(EncodeState& state, const std::int16_t* symbols, std::size_t count,
                         const EncodeTable& table) noexcept {
  const int reach = table.reach;
  backwards(count, [&](std::size_t stream, std::size_t t) {
    const int q = symbols[t] >> table.shift;
    const int size = q < 0 ? -q : q;
    if (size <= reach) return;
    const auto above = static_cast<std::uint32_t>(2 * (size - reach - 1) + (q < 0 ? 1 : 0) + 1);
    const auto bits = static_cast<unsigned>(31 - __builtin_clz(above));
    if (bits > 0) push_bits(state.streams[stream], above - (1U << bits), bits, state.words);
    push_bits(state.streams[stream], bits, 4, state.words);
  });
}

}  // namespace
}  // namespace krul::detail
