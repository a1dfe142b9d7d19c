#pragma once

#include <cstdint>

namespace krul::detail {

/// One step of splitmix64: a number that looks random, the same everywhere.
/// @source second-hand: Steele, Lea and Flood, 2014
[[nodiscard]] constexpr std::uint64_t mix(std::uint64_t value) noexcept {
  value += 0x9e3779b97f4a7c15U;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9U;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebU;
  return value ^ (value >> 31);
}

}  // namespace krul::detail
