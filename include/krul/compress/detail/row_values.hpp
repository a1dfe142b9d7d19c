#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "krul/core/half.hpp"

namespace krul::detail {

/// Nearest integer, ties to even, of a value in [-2^22, 2^22]: the float adder rounds to whole units at 3 * 2^22.
[[nodiscard]] inline std::int32_t nearest_int(float value) noexcept {
  return std::bit_cast<std::int32_t>(value + 0x1.8p23F) - std::bit_cast<std::int32_t>(0x1.8p23F);
}

/// One value of a row, at any alignment.
template <ElementType Type>
[[nodiscard]] inline float load_value(const std::byte* from) noexcept {
  if constexpr (Type == ElementType::f32) {
    float value;
    std::memcpy(&value, from, 4);
    return value;
  } else {
    std::uint16_t bits;
    std::memcpy(&bits, from, 2);
    return Type == ElementType::f16 ? float_from_f16(bits) : float_from_bf16(bits);
  }
}

/// The inverse, rounded to nearest even.
template <ElementType Type>
inline void store_value(float value, std::byte* to) noexcept {
  if constexpr (Type == ElementType::f32) {
    std::memcpy(to, &value, 4);
  } else {
    const std::uint16_t bits = Type == ElementType::f16 ? f16_from_float(value) : bf16_from_float(value);
    std::memcpy(to, &bits, 2);
  }
}

#if KRUL_HAS_AVX2
/// Eight values, at any alignment.
template <ElementType Type>
[[nodiscard]] KRUL_AVX2 inline __m256 load_eight(const std::byte* from) noexcept {
  if constexpr (Type == ElementType::f32) {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(from));
  } else {
    const __m128i packed = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    if constexpr (Type == ElementType::f16) return _mm256_cvtph_ps(packed);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(packed), 16));
  }
}

/// The inverse, rounded to nearest even. A NaN stays one if it came from a value of the same type.
template <ElementType Type>
KRUL_AVX2 inline void store_eight(__m256 values, std::byte* to) noexcept {
  if constexpr (Type == ElementType::f32) {
    _mm256_storeu_ps(reinterpret_cast<float*>(to), values);
  } else if constexpr (Type == ElementType::f16) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT));
  } else {
    const __m256i bits = _mm256_castps_si256(values);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded =
        _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd), 16);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                     _mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1)));
  }
}
#endif

}  // namespace krul::detail
