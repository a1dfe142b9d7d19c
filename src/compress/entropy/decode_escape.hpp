#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "krul/compress/entropy/detail/alias_table.hpp"

namespace krul::detail {
// Internal to each file that includes this, as they are compiled for other instructions.
namespace {

/// The state after at most one word from `at`, which moves on if it was taken.
inline std::uint32_t take_word(std::uint32_t state, const std::byte*& at) noexcept {
  const std::uint32_t word = std::to_integer<std::uint32_t>(at[0]) | std::to_integer<std::uint32_t>(at[1]) << 8;
  const bool low = state < 1U << 16;
  at += low ? 2 : 0;
  return low ? state << 16 | word : state;
}

/// The next `count` <= 16 bits of a stream as they are.
inline std::uint32_t take_bits(std::uint32_t& state, unsigned count, const std::byte*& at) noexcept {
  const std::uint32_t bits = state & ((1U << count) - 1);
  state = take_word(state >> count, at);
  return bits;
}

/// What follows the escapes of a step: replaces the symbols out[t] whose bit t is set.
/// @return false if a symbol does not fit 16 bits
inline bool take_escapes(std::uint32_t tokens, const AliasTable& table, std::array<std::uint32_t, 32>& streams,
                         std::int16_t* out, const std::byte*& at) noexcept {
  bool sound = true;
  for (unsigned parity = 0; parity < 2; ++parity)
    for (unsigned i = 0; i < 16; ++i) {
      const unsigned t = 2 * i + parity;
      if ((tokens >> t & 1) == 0) continue;
      std::uint32_t& state = streams[16 * parity + i];
      const std::uint32_t count = take_bits(state, 4, at);
      const std::uint32_t remainder = (1U << count) + take_bits(state, count, at) - 1;
      const auto size = static_cast<std::int32_t>(table.reach + 1U + (remainder >> 1));
      const std::int32_t q = (remainder & 1) != 0 ? -size : size;
      const auto low = static_cast<std::int32_t>(static_cast<std::uint32_t>(out[t]) & ((1U << table.shift) - 1));
      const std::int64_t symbol = (std::int64_t{q} << table.shift) + low;
      sound = sound && symbol == std::int64_t{static_cast<std::int16_t>(symbol)};
      out[t] = static_cast<std::int16_t>(symbol);
    }
  return sound;
}

}  // namespace
}  // namespace krul::detail
