#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace krul::reference {

/// A binary floating-point format of 16 bits: sign, exponent, fraction.
struct SmallFloat {
  int exponent_bits = 5;
  int fraction_bits = 10;
  [[nodiscard]] int bias() const { return (1 << (exponent_bits - 1)) - 1; }
};
inline constexpr SmallFloat binary16{5, 10};
inline constexpr SmallFloat bfloat16{8, 7};

/// The value of `bits`, exactly.
[[nodiscard]] inline double value_of(SmallFloat format, std::uint16_t bits) {
  const int fraction = bits & ((1 << format.fraction_bits) - 1);
  const int exponent = (bits >> format.fraction_bits) & ((1 << format.exponent_bits) - 1);
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == (1 << format.exponent_bits) - 1)
    return fraction != 0 ? std::numeric_limits<double>::quiet_NaN() : sign * std::numeric_limits<double>::infinity();
  const int implicit_one = exponent == 0 ? 0 : 1 << format.fraction_bits;
  return sign * std::ldexp(implicit_one + fraction, std::max(exponent, 1) - format.bias() - format.fraction_bits);
}

/// The nearest value's bits, of two equally near the even one; infinite beyond the largest by half a unit. Not for NaN.
[[nodiscard]] inline std::uint16_t nearest(SmallFloat format, double value) {
  const int sign = std::signbit(value) ? 0x8000 : 0;
  const int infinity = ((1 << format.exponent_bits) - 1) << format.fraction_bits;
  if (std::isinf(value)) return static_cast<std::uint16_t>(sign | infinity);
  const int smallest = 1 - format.bias();  // exponent of the smallest normal value; subnormals share its unit
  const int exponent = value == 0 ? smallest : std::max(smallest, std::ilogb(value));
  const double units = std::nearbyint(std::ldexp(std::abs(value), format.fraction_bits - exponent));
  // Bits count units upwards from 0 through all exponents, so a carry into the next exponent needs no care.
  const double bits = std::ldexp(exponent - smallest, format.fraction_bits) + units;
  return static_cast<std::uint16_t>(sign | static_cast<int>(std::min<double>(bits, infinity)));
}

}  // namespace krul::reference
