#pragma once

#include <bit>
#include <cstddef>

#include "krul/compress/detail/row_values.hpp"

namespace krul::detail {

/// What one step of a code is worth relative to the peak. A code of 127 must give the peak itself, bit for bit: then
/// coding a decoded head again finds the same peak. Hence (code * unit) * peak, in this order.
inline constexpr float int8_unit = 1.0F / 127.0F;
static_assert(127.0F * int8_unit == 1.0F);

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
    store_eight<Type>(value, to + i * size_of(Type));
  }
  sound = _mm256_testz_si256(bad, bad) != 0;
#endif
  for (; i < count; ++i) {
    const auto code = static_cast<std::int8_t>(codes[i]);
    sound = sound && code != -128;
    store_value<Type>(static_cast<float>(code) * int8_unit * peak, to + i * size_of(Type));
  }
  return sound;
}

}  // namespace krul::detail
