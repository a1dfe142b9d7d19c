#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "krul/similarity/detail/mix.hpp"

namespace krul::detail {

// Little-endian numbers, and a check behind them: of what is kept of attention.

template <std::unsigned_integral T>
void put(std::vector<std::byte>& bytes, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) bytes.push_back(static_cast<std::byte>(value >> (8 * i)));
}

/// Takes a number off the front.
template <std::unsigned_integral T>
T take(std::span<const std::byte>& bytes) {
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) value |= static_cast<T>(std::to_integer<T>(bytes[i]) << (8 * i));
  bytes = bytes.subspan(sizeof(T));
  return value;
}

/// Finds accidents, not forgeries.
inline std::uint64_t check_of(std::span<const std::byte> bytes) {
  std::uint64_t state = bytes.size();
  for (const std::byte byte : bytes) state = mix(state ^ std::to_integer<std::uint64_t>(byte));
  return state;
}

}  // namespace krul::detail
