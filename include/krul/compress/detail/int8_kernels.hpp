#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "krul/core/half.hpp"
#if defined(__AVX2__) && defined(__F16C__)
#include <immintrin.h>
#endif

namespace krul::detail {

/// What one step of a code is worth relative to the peak. A code of 127 must give the peak itself, bit for bit: then
/// coding a decoded head again finds the same peak. Hence (code * unit) * peak, in this order.
inline constexpr float int8_unit = 1.0F / 127.0F;
static_assert(127.0F * int8_unit == 1.0F);

/// Nearest integer, ties to even, of a value in [-128, 128]: the float adder rounds to whole units at 3 * 2^22.
[[nodiscard]] inline std::int8_t int8_rounded(float value) noexcept {
  return static_cast<std::int8_t>(std::bit_cast<std::int32_t>(value + 0x1.8p23F) -
                                  std::bit_cast<std::int32_t>(0x1.8p23F));
}

/// codes [count] -> values [count] of `Type` under a finite peak.
/// @return false if a code is -128, which no encoder writes
template <ElementType Type>
[[nodiscard]] inline bool int8_decode_head(const std::byte* codes, std::size_t count, float peak,
                                           std::byte* to) noexcept {
  bool sound = true;
  std::size_t i = 0;
#if defined(__AVX2__) && defined(__F16C__)
  const __m256 unit = _mm256_set1_ps(int8_unit), top = _mm256_set1_ps(peak);
  __m256i bad = _mm256_setzero_si256();
  for (; i + 8 <= count; i += 8) {
    const __m256i code = _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes + i)));
    bad = _mm256_or_si256(bad, _mm256_cmpeq_epi32(code, _mm256_set1_epi32(-128)));
    const __m256 value = _mm256_mul_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(code), unit), top);
    if constexpr (Type == ElementType::f32) {
      _mm256_storeu_ps(reinterpret_cast<float*>(to + 4 * i), value);
    } else if constexpr (Type == ElementType::f16) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 2 * i), _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
    } else {
      const __m256i bits = _mm256_castps_si256(value);
      const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
      const __m256i rounded =
          _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd), 16);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 2 * i),
                       _mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1)));
    }
  }
  sound = _mm256_testz_si256(bad, bad) != 0;
#endif
  for (; i < count; ++i) {
    const auto code = static_cast<std::int8_t>(codes[i]);
    sound = sound && code != -128;
    const float value = static_cast<float>(code) * int8_unit * peak;
    if constexpr (Type == ElementType::f32) {
      std::memcpy(to + 4 * i, &value, 4);
    } else {
      const std::uint16_t bits = Type == ElementType::f16 ? f16_from_float(value) : bf16_from_float(value);
      std::memcpy(to + 2 * i, &bits, 2);
    }
  }
  return sound;
}

}  // namespace krul::detail
