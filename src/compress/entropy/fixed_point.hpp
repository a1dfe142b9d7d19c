#pragma once

#include <bit>
#include <cstdint>

namespace krul::detail {

/// log2(value) in 1 / 65536, rounded down. @pre value > 0
[[nodiscard]] inline std::uint32_t log2_q16(std::uint64_t value) noexcept {
  const auto whole = static_cast<unsigned>(std::bit_width(value) - 1);
  std::uint64_t mantissa = whole > 31 ? value >> (whole - 31) : value << (31 - whole);  // in [1, 2), 31 fraction bits
  std::uint32_t result = whole;
  for (int bit = 0; bit < 16; ++bit) {
    mantissa = (mantissa * mantissa) >> 31;
    const std::uint64_t carry = mantissa >> 32;
    mantissa >>= carry;
    result = result << 1 | static_cast<std::uint32_t>(carry);
  }
  return result;
}

/// 2^31 exp(-y), y in 1 / 2^24: whole powers of two and a series for the rest. Error below 16 units.
[[nodiscard]] inline std::uint64_t exp_of_minus_q24(std::uint64_t y) noexcept {
  constexpr std::uint64_t ln2 = 11629080;  // 2^24 ln 2
  const std::uint64_t halvings = y / ln2;
  if (halvings > 31) return 0;
  const std::uint64_t rest = (y % ln2) << 7;  // 31 fraction bits, below ln 2
  std::uint64_t sum = 0;
  for (std::uint64_t n = 12; n > 0; --n) sum = (rest * ((1ULL << 31) - sum) >> 31) / n;  // Horner: r/n (1 - ...)
  return ((1ULL << 31) - sum) >> halvings;
}

}  // namespace krul::detail
