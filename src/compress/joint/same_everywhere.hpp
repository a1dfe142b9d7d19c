#pragma once

#include <cmath>

// The functions of the C library differ in the last bit from processor to processor, and what is coded must not. These
// take sums and products alone, in one order, compiled without fusing them.

namespace krul::detail {

/// e^y for |y| <= 700, with a relative error of some 2^-51.
[[nodiscard]] inline double same_exp(double y) {
  constexpr double ln2_high = 0x1.62e42fefa38p-1,
                   ln2_low = 0x1.ef35793c7673p-45;  // ln 2, its first 42 bits and the rest
  const double n = std::floor(y * 1.4426950408889634 + 0.5);
  const double r = (y - n * ln2_high) - n * ln2_low;
  double sum = 1;
  for (int k = 18; k > 0; --k) sum = 1 + sum * r / k;
  return std::ldexp(sum, static_cast<int>(n));
}

/// ln x for normal x > 0, with an error of some 2^-52 of the larger of 1 and the result.
[[nodiscard]] inline double same_log(double x) {
  int exponent = 0;
  double mantissa = std::frexp(x, &exponent);  // in [1/2, 1)
  if (mantissa < 0.70710678118654752) mantissa *= 2, --exponent;
  const double z = (mantissa - 1) / (mantissa + 1), square = z * z;  // ln m = 2 artanh z, |z| < 0.172
  double sum = 0;
  for (int k = 27; k > 0; k -= 2) sum = sum * square + 1.0 / k;
  return exponent * 0.69314718055994531 + 2 * z * sum;
}

struct Turn {
  double cosine, sine;
};

/// Of an angle from 0 to 10^6, with an error below 2^-50; of larger ones it is less exact.
[[nodiscard]] inline Turn same_turn(double angle) {
  // pi / 2 in three parts of 33 bits each, so that multiples of the first two are exact.
  const double n = std::floor(angle * 0.63661977236758134 + 0.5);
  const double r = ((angle - n * 0x1.921fb544p+0) - n * 0x1.0b4611a6p-34) - n * 0x1.3198a2e037073p-69;
  const double square = r * r;
  double cosine = 1, sine = 1;
  for (int k = 20; k > 0; k -= 2) {
    cosine = 1 - cosine * square / (k * (k - 1));
    sine = 1 - sine * square / (k * (k + 1));
  }
  sine *= r;
  switch (static_cast<long long>(n) & 3) {
    case 0:
      return {cosine, sine};
    case 1:
      return {-sine, cosine};
    case 2:
      return {-cosine, -sine};
    default:
      return {sine, -cosine};
  }
}

}  // namespace krul::detail
