#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "krul/core/element_type.hpp"
#include "krul/core/half.hpp"
#if defined(__AVX__)
#include <immintrin.h>
#endif

namespace krul {

// Vectors of floats by the compilers' vector extension: as wide as the widest registers that the build may use, so that
// loops vectorise the same way at every optimisation level and every sum has one order.
#if defined(__AVX512F__)
inline constexpr std::size_t lane_count = 16;
#elif defined(__AVX__)
inline constexpr std::size_t lane_count = 8;
#else
inline constexpr std::size_t lane_count = 4;
#endif
/// Vectors a register tile is wide: with six rows, their sums fill three quarters of the registers.
inline constexpr std::size_t tile_vectors = lane_count == 16 ? 4 : 2;

using Lanes [[gnu::vector_size(lane_count * sizeof(float))]] = float;
using IntLanes [[gnu::vector_size(lane_count * sizeof(float))]] = std::int32_t;
using HalfLanes [[gnu::vector_size(lane_count * 2)]] = std::uint16_t;

inline Lanes load(const float* from) {
  Lanes lanes;
  std::memcpy(&lanes, from, sizeof lanes);
  return lanes;
}
inline void store(Lanes lanes, float* to) {
  std::memcpy(to, &lanes, sizeof lanes);
}
inline Lanes broadcast(float value) {
  return value - Lanes{};
}
/// 0, 1, 2, ...
inline IntLanes lane_numbers() {
  IntLanes numbers;
  for (std::size_t lane = 0; lane < lane_count; ++lane) numbers[lane] = static_cast<std::int32_t>(lane);
  return numbers;
}
inline Lanes select(IntLanes mask, Lanes yes, Lanes no) {
  return mask ? yes : no;
}
inline Lanes max(Lanes a, Lanes b) {
  return a > b ? a : b;
}
inline float max_of(Lanes lanes) {
  float largest = lanes[0];
  for (std::size_t lane = 1; lane < lane_count; ++lane) largest = lanes[lane] > largest ? lanes[lane] : largest;
  return largest;
}
inline float sum_of(Lanes lanes) {
  float values[lane_count];
  store(lanes, values);
  for (std::size_t half = lane_count / 2; half > 0; half /= 2)
    for (std::size_t lane = 0; lane < half; ++lane) values[lane] += values[lane + half];
  return values[0];
}

/// e^x with a relative error below 3 units in the last place; 0 below -87, x above 88 counts as 88. NaN is not kept.
inline Lanes exp(Lanes x) {
  const Lanes limited = max(broadcast(-88.0F), x < 88.0F ? x : broadcast(88.0F));
  // x = n ln 2 + r with |r| <= ln 2 / 2; adding 1.5 * 2^23 rounds to a whole number that can be read off the bits.
  const Lanes shifted = limited * 1.44269504F + 12582912.0F;
  const Lanes n = shifted - 12582912.0F;
  // ln 2 in two parts, of which the first has few enough bits for n * part to be exact.
  const Lanes r = (limited - n * 0.693359375F) + n * 2.12194440e-4F;
  // Taylor's series to degree 7: its remainder, r^8 / 8!, is below 6e-9.
  Lanes sum = broadcast(1.0F / 5040);
  sum = sum * r + 1.0F / 720;
  sum = sum * r + 1.0F / 120;
  sum = sum * r + 1.0F / 24;
  sum = sum * r + 1.0F / 6;
  sum = sum * r + 0.5F;
  sum = sum * r + 1.0F;
  sum = sum * r + 1.0F;
  IntLanes bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  IntLanes scaled;
  std::memcpy(&scaled, &sum, sizeof scaled);
  scaled += bits << 23;  // the whole number's low bits become the exponent's
  std::memcpy(&sum, &scaled, sizeof sum);
  return x < -87.0F ? Lanes{} : sum;
}

/// A vector of values of `Type` as floats, exactly.
template <ElementType Type>
Lanes load_as(const std::byte* from) {
  Lanes lanes;
  if constexpr (Type == ElementType::f32) {
    std::memcpy(&lanes, from, sizeof lanes);
  } else {
    HalfLanes halves;
    std::memcpy(&halves, from, sizeof halves);
    if constexpr (Type == ElementType::bf16) {
      const IntLanes bits = __builtin_convertvector(halves, IntLanes) << 16;
      std::memcpy(&lanes, &bits, sizeof lanes);
    } else {
#if defined(__AVX512F__)
      __m256i packed;
      std::memcpy(&packed, &halves, sizeof packed);
      // The form with a mask, as GCC 12 warns about its own plain one.
      lanes = _mm512_maskz_cvtph_ps(0xffff, packed);
#elif defined(__F16C__)
      __m128i packed;
      std::memcpy(&packed, &halves, sizeof packed);
      lanes = _mm256_cvtph_ps(packed);
#else
      for (std::size_t lane = 0; lane < lane_count; ++lane) lanes[lane] = float_from_f16(halves[lane]);
#endif
    }
  }
  return lanes;
}

}  // namespace krul
