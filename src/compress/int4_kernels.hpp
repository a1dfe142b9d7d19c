#pragma once

#include <cstddef>
#include <cstdint>

#include "krul/compress/detail/row_values.hpp"

namespace krul::detail {

/// Values that share one peak.
inline constexpr std::size_t int4_group = 32;

#if KRUL_HAS_AVX2
/// A whole group, for int4_decode_group.
template <ElementType Type>
KRUL_AVX2 inline void int4_decode_avx2(const std::byte* codes, float step, std::byte* to) noexcept {
  const __m128i packed = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)), mask = _mm_set1_epi8(15),
                eight = _mm_set1_epi8(8);
  const __m128i first = _mm_sub_epi8(eight, _mm_and_si128(packed, mask)),
                second = _mm_sub_epi8(eight, _mm_and_si128(_mm_srli_epi16(packed, 4), mask));
  const __m128i eights[] = {first, _mm_unpackhi_epi64(first, first), second, _mm_unpackhi_epi64(second, second)};
  const __m256 steps = _mm256_set1_ps(step);
  for (std::size_t i = 0; i < 4; ++i)
    store_eight<Type>(_mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eights[i])), steps),
                      to + 8 * i * size_of(Type));
}
#endif

/// codes [ceil(count / 2)] -> values [count] of `Type`: code q is worth (8 - q) * step. The lower halves of the bytes
/// hold the first ceil(count / 2) codes, the upper halves the others.
template <ElementType Type>
inline void int4_decode_group(const std::byte* codes, std::size_t count, float step, std::byte* to) noexcept {
#if KRUL_HAS_AVX2
  if (count == int4_group && use_avx2()) return int4_decode_avx2<Type>(codes, step, to);
#endif
  const std::size_t half = (count + 1) / 2;
  for (std::size_t i = 0; i < count; ++i) {
    const unsigned byte = std::to_integer<unsigned>(codes[i < half ? i : i - half]);
    const int code = static_cast<int>(i < half ? byte & 15U : byte >> 4);
    store_value<Type>(static_cast<float>(8 - code) * step, to + i * size_of(Type));
  }
}

}  // namespace krul::detail
