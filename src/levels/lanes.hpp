#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "krul/core/element_type.hpp"
#if defined(__AVX__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace krul {
// Each file that includes this may be compiled for other instructions: everything has internal linkage, so that the
// linker cannot pick one file's functions for all, and no inline functions of others are called.
namespace {

// Vectors of floats by the compilers' vector extension: as wide as the widest registers that the file may use, so that
// loops vectorise the same way at every optimisation level and every sum has one order.
#if defined(__AVX512F__)
constexpr std::size_t lane_count = 16;
#elif defined(__AVX__)
constexpr std::size_t lane_count = 8;
#else
constexpr std::size_t lane_count = 4;
#endif
/// Vectors a register tile is wide: with six rows, their sums fill three quarters of the registers.
constexpr std::size_t tile_vectors = lane_count == 16 ? 4 : 2;

using Lanes [[gnu::vector_size(lane_count * sizeof(float))]] = float;
using IntLanes [[gnu::vector_size(lane_count * sizeof(float))]] = std::int32_t;
using BitLanes [[gnu::vector_size(lane_count * sizeof(float))]] = std::uint32_t;
using HalfLanes [[gnu::vector_size(lane_count * 2)]] = std::uint16_t;

inline Lanes load(const float* from) {
  Lanes lanes;
  __builtin_memcpy(&lanes, from, sizeof lanes);
  return lanes;
}
inline void store(Lanes lanes, float* to) {
  __builtin_memcpy(to, &lanes, sizeof lanes);
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
/// Each lane of the lower half joined with the one that lies Distance above it; the others are of no use.
template <std::size_t Distance, class Join>
Lanes fold(Lanes lanes, Join&& join) {
  const Lanes upper = [&]<std::size_t... I>(std::index_sequence<I...>) {
    return __builtin_shufflevector(lanes, lanes, ((I + Distance) % lane_count)...);
  }
  (std::make_index_sequence<lane_count>());
  return join(lanes, upper);
}
/// All lanes joined by halves.
template <class Join>
float fold_all(Lanes lanes, Join&& join) {
  if constexpr (lane_count > 8) lanes = fold<8>(lanes, join);
  if constexpr (lane_count > 4) lanes = fold<4>(lanes, join);
  lanes = fold<2>(lanes, join);
  return fold<1>(lanes, join)[0];
}
inline float max_of(Lanes lanes) {
  return fold_all(lanes, [](Lanes a, Lanes b) { return max(a, b); });
}
/// a * b + c: rounded once where the level has an instruction for that, else twice. What compilers fuse by themselves
/// depends on what they inlined, so a row's bits would depend on the rows beside it: they are told not to.
inline Lanes multiply_add(Lanes a, Lanes b, Lanes c) {
#if defined(__AVX512F__)
  return (Lanes)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
  return (Lanes)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
  return (Lanes)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return a * b + c;
#endif
}
inline Lanes multiply_add(Lanes a, float b, Lanes c) {
  return multiply_add(a, broadcast(b), c);
}
inline float multiply_add(float a, float b, float c) {
#if defined(__FMA__) || defined(__aarch64__)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}
/// a * b + c, rounded once. For sums that must have the same bits at every level.
inline Lanes fused(Lanes a, Lanes b, Lanes c) {
#if defined(__FMA__) || defined(__aarch64__)
  return multiply_add(a, b, c);
#else
  // In double the product is exact. If the sum is not, its last bit is set: that rounding it again to a float then
  // gives what one rounding would have given is known as rounding to odd. Errors of infinite sums are no numbers.
  using Doubles [[gnu::vector_size(lane_count * sizeof(double))]] = double;
  using Longs [[gnu::vector_size(lane_count * sizeof(double))]] = std::int64_t;
  const Doubles product = __builtin_convertvector(a, Doubles) * __builtin_convertvector(b, Doubles),
                addend = __builtin_convertvector(c, Doubles), sum = product + addend;
  const Doubles of_addend = sum - product, error = (product - (sum - of_addend)) + (addend - of_addend);
  // An error away from zero is cut off by the set bit; one towards zero needs the next smaller value first.
  const Longs bits = (Longs)sum, towards_zero = (Longs)((error < 0.0) ^ (sum < 0.0));
  const Longs odd = (bits + towards_zero) | 1;
  return __builtin_convertvector((Doubles)(((error < 0.0) | (error > 0.0)) ? odd : bits), Lanes);
#endif
}
inline float sum_of(Lanes lanes) {
  return fold_all(lanes, [](Lanes a, Lanes b) { return a + b; });
}

/// e^x with a relative error below 3 units in the last place; 0 below -87, x above 88 counts as 88. NaN is not kept.
inline Lanes exp(Lanes x) {
  const Lanes limited = max(broadcast(-88.0F), x < 88.0F ? x : broadcast(88.0F));
  // x = n ln 2 + r with |r| <= ln 2 / 2; adding 1.5 * 2^23 rounds to a whole number that can be read off the bits.
  const Lanes shifted = multiply_add(limited, 1.44269504F, broadcast(12582912.0F));
  const Lanes n = shifted - 12582912.0F;
  // ln 2 in two parts, of which the first has few enough bits for n * part to be exact.
  const Lanes r = multiply_add(n, 2.12194440e-4F, limited - n * 0.693359375F);
  // Taylor's series to degree 7: its remainder, r^8 / 8!, is below 6e-9.
  Lanes sum = broadcast(1.0F / 5040);
  sum = multiply_add(sum, r, broadcast(1.0F / 720));
  sum = multiply_add(sum, r, broadcast(1.0F / 120));
  sum = multiply_add(sum, r, broadcast(1.0F / 24));
  sum = multiply_add(sum, r, broadcast(1.0F / 6));
  sum = multiply_add(sum, r, broadcast(0.5F));
  sum = multiply_add(sum, r, broadcast(1.0F));
  sum = multiply_add(sum, r, broadcast(1.0F));
  IntLanes bits;
  __builtin_memcpy(&bits, &shifted, sizeof bits);
  IntLanes scaled;
  __builtin_memcpy(&scaled, &sum, sizeof scaled);
  scaled += bits << 23;  // the whole number's low bits become the exponent's
  __builtin_memcpy(&sum, &scaled, sizeof sum);
  return x < -87.0F ? Lanes{} : sum;
}

/// 2^x with a relative error below 2^-17, an eightieth of half a unit of bf16; 0 far below -100. For x <= 126.
/// The polynomial interpolates 2^r at the Chebyshev nodes of [-1/2, 1/2]: it is off by 3.5e-6.
inline Lanes exp2_for_bf16(Lanes x) {
  const auto power = [](Lanes r) {
    Lanes sum = multiply_add(r, 0.00966636852F, broadcast(0.0559219758F));
    sum = multiply_add(sum, r, broadcast(0.24022349F));
    sum = multiply_add(sum, r, broadcast(0.693121045F));
    return multiply_add(sum, r, broadcast(1.0F));
  };
#if defined(__AVX512F__)
  // The forms with a mask, as GCC 12 warns about its own plain ones.
  const auto whole = _mm512_maskz_roundscale_ps(0xffff, (__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  return (Lanes)_mm512_maskz_scalef_ps(0xffff, (__m512)power(x - (Lanes)whole), whole);
#else
  const Lanes shifted = x + 12582912.0F;  // 1.5 * 2^23 rounds to a whole number that can be read off the bits
  const Lanes sum = power(x - (shifted - 12582912.0F));
  IntLanes bits, scaled;
  __builtin_memcpy(&bits, &shifted, sizeof bits);
  __builtin_memcpy(&scaled, &sum, sizeof scaled);
  scaled += bits << 23;
  Lanes scaled_sum;
  __builtin_memcpy(&scaled_sum, &scaled, sizeof scaled_sum);
  return x < -100.0F ? Lanes{} : scaled_sum;
#endif
}

/// Rounds to bf16, to nearest even; what is not a number may become infinite.
inline HalfLanes nearest_bf16(Lanes lanes) {
  const auto bits = (BitLanes)lanes;
  return __builtin_convertvector((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16, HalfLanes);
}

/// A vector of values of `Type` as floats, exactly.
template <ElementType Type>
Lanes load_as(const std::byte* from) {
  Lanes lanes;
  if constexpr (Type == ElementType::f32) {
    __builtin_memcpy(&lanes, from, sizeof lanes);
  } else {
    HalfLanes halves;
    __builtin_memcpy(&halves, from, sizeof halves);
    if constexpr (Type == ElementType::bf16) {
      const IntLanes bits = __builtin_convertvector(halves, IntLanes) << 16;
      __builtin_memcpy(&lanes, &bits, sizeof lanes);
    } else {
#if defined(__AVX512F__)
      __m256i packed;
      __builtin_memcpy(&packed, &halves, sizeof packed);
      // The form with a mask, as GCC 12 warns about its own plain one.
      lanes = _mm512_maskz_cvtph_ps(0xffff, packed);
#elif defined(__F16C__)
      __m128i packed;
      __builtin_memcpy(&packed, &halves, sizeof packed);
      lanes = _mm256_cvtph_ps(packed);
#else
      // The exponent moves by a product, which subnormal numbers need; what is infinite or NaN stays so.
      const IntLanes half = __builtin_convertvector(halves, IntLanes), magnitude = half & 0x7fff;
      const IntLanes shifted = magnitude << 13;
      __builtin_memcpy(&lanes, &shifted, sizeof lanes);
      lanes *= 0x1p112F;
      IntLanes bits;
      __builtin_memcpy(&bits, &lanes, sizeof bits);
      bits |= ((magnitude >= 0x7c00) & 0x7f800000) | ((magnitude > 0x7c00) & 0x400000) | ((half & 0x8000) << 16);
      __builtin_memcpy(&lanes, &bits, sizeof lanes);
#endif
    }
  }
  return lanes;
}

}  // namespace
}  // namespace krul
