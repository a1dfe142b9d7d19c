#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "krul/compress/detail/row_values.hpp"

namespace krul::detail {

/// What one step of a code is worth relative to the peak. A code of 127 must give the peak itself, bit for bit: then
/// coding a decoded head again finds the same peak. Hence (code * unit) * peak, in this order.
inline constexpr float int8_unit = 1.0F / 127.0F;
static_assert(127.0F * int8_unit == 1.0F);

#if KRUL_HAS_AVX2
/// Heads [n][2 + dim], as many as are plain: with a finite peak above zero.
/// @param dim  whole vectors of eight
/// @return     how many heads were decoded; the next one, if there is one, is not plain
template <ElementType Type>
KRUL_AVX2 inline std::size_t int8_decode_heads_avx2(const std::byte* from, std::size_t n, std::size_t dim,
                                                    std::byte* to, bool& sound) noexcept {
  const __m256 unit = _mm256_set1_ps(int8_unit);
  __m256i bad = _mm256_setzero_si256();
  std::size_t head = 0;
  for (; head < n; ++head, from += 2 + dim, to += dim * size_of(Type)) {
    std::uint16_t stored;
    std::memcpy(&stored, from, 2);
    constexpr std::uint16_t infinite = Type == ElementType::f16 ? 0x7c00 : Type == ElementType::bf16 ? 0x7f80 : 0xff00;
    if (stored == 0 || stored >= infinite) break;
    const float peak = Type == ElementType::f16    ? _cvtsh_ss(stored)
                       : Type == ElementType::bf16 ? float_from_bf16(stored)
                                                   : std::bit_cast<float>(std::uint32_t{stored} << 15);
    const __m256 top = _mm256_set1_ps(peak);
    for (std::size_t i = 0; i < dim; i += 8) {
      const __m256i code = _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from + 2 + i)));
      bad = _mm256_or_si256(bad, _mm256_cmpeq_epi32(code, _mm256_set1_epi32(-128)));
      store_eight<Type>(_mm256_mul_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(code), unit), top), to + i * size_of(Type));
    }
  }
  sound = sound && _mm256_testz_si256(bad, bad) != 0;
  return head;
}

/// Whole vectors of eight values, for int8_encode_head.
/// @return how many values were coded
KRUL_AVX2 inline std::size_t int8_encode_avx2(const float* values, std::size_t count, float peak,
                                              std::byte* codes) noexcept {
  const __m256 top = _mm256_set1_ps(peak), most = _mm256_set1_ps(127.0F);
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m256i code = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_div_ps(_mm256_loadu_ps(values + i), top), most));
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(code), _mm256_extracti128_si256(code, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(codes + i), _mm_packs_epi16(words, words));
  }
  return i;
}
#endif

/// codes [count] -> values [count] of `Type` under a finite peak.
/// @return false if a code is -128, which no encoder writes
template <ElementType Type>
[[nodiscard]] inline bool int8_decode_head(const std::byte* codes, std::size_t count, float peak,
                                           std::byte* to) noexcept {
  bool sound = true;
  for (std::size_t i = 0; i < count; ++i) {
    const auto code = static_cast<std::int8_t>(codes[i]);
    sound = sound && code != -128;
    store_value<Type>(static_cast<float>(code) * int8_unit * peak, to + i * size_of(Type));
  }
  return sound;
}

/// values [count] -> codes [count] under a positive peak: round(127 * value / peak), to nearest even.
inline void int8_encode_head(const float* values, std::size_t count, float peak, std::byte* codes) noexcept {
  std::size_t i = 0;
#if KRUL_HAS_AVX2
  if (use_avx2()) i = int8_encode_avx2(values, count, peak, codes);
#endif
  for (; i < count; ++i) codes[i] = static_cast<std::byte>(nearest_int(values[i] / peak * 127.0F));
}

}  // namespace krul::detail
