#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>

#include "krul/compress/detail/row_values.hpp"

namespace krul::detail {

/// Lengths of two vectors and the cosine of the angle between them; NaN where there is none.
struct VectorPair {
  float first = 0, second = 0, cosine = 0;
};

/// Squares and products of two vectors, summed in sixteen lanes: as many as keep the adders busy, and they shorten the
/// rounding error too.
struct PairSums {
  alignas(32) std::array<float, 16> aa{}, bb{}, ab{};
};

#if KRUL_HAS_AVX2
/// Whole runs of sixteen values, for compare_vectors.
/// @return how many values were summed
KRUL_AVX2 inline std::size_t sum_pairs_avx2(std::span<const float> a, std::span<const float> b,
                                            PairSums& sums) noexcept {
  __m256 aa[2] = {}, bb[2] = {}, ab[2] = {};
  std::size_t i = 0;
  for (; i + 16 <= a.size(); i += 16)
    for (std::size_t half = 0; half < 2; ++half) {
      const __m256 x = _mm256_loadu_ps(a.data() + i + 8 * half), y = _mm256_loadu_ps(b.data() + i + 8 * half);
      aa[half] = _mm256_add_ps(aa[half], _mm256_mul_ps(x, x));
      bb[half] = _mm256_add_ps(bb[half], _mm256_mul_ps(y, y));
      ab[half] = _mm256_add_ps(ab[half], _mm256_mul_ps(x, y));
    }
  for (std::size_t half = 0; half < 2; ++half) {
    _mm256_store_ps(sums.aa.data() + 8 * half, aa[half]);
    _mm256_store_ps(sums.bb.data() + 8 * half, bb[half]);
    _mm256_store_ps(sums.ab.data() + 8 * half, ab[half]);
  }
  return i;
}
#endif

/// a, b [n]
[[nodiscard]] inline VectorPair compare_vectors(std::span<const float> a, std::span<const float> b) noexcept {
  PairSums sums;
  auto& [aa, bb, ab] = sums;
  std::size_t i = 0;
#if KRUL_HAS_AVX2
  if (use_avx2()) i = sum_pairs_avx2(a, b, sums);
#endif
  for (; i < a.size(); ++i) {
    aa[i % 16] += a[i] * a[i];
    bb[i % 16] += b[i] * b[i];
    ab[i % 16] += a[i] * b[i];
  }
  float first = 0, second = 0, both = 0;
  for (std::size_t lane = 0; lane < aa.size(); ++lane) {
    first += aa[lane];
    second += bb[lane];
    both += ab[lane];
  }
  first = std::sqrt(first);
  second = std::sqrt(second);
  return {first, second, both / first / second};
}

/// values [n]
[[nodiscard]] inline float length_of(std::span<const float> values) noexcept {
  return compare_vectors(values, values).first;
}

#if KRUL_HAS_AVX2
/// Whole vectors of eight values, for scale_to_both.
/// @return how many values were scaled
template <ElementType Type>
KRUL_AVX2 inline std::size_t scale_to_both_avx2(const std::byte* direction, std::size_t count,
                                                std::array<float, 2> scales, std::array<std::byte*, 2> to) noexcept {
  const __m256 first = _mm256_set1_ps(scales[0]), second = _mm256_set1_ps(scales[1]);
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m256 values = load_eight<Type>(direction + i * size_of(Type));
    store_eight<Type>(_mm256_mul_ps(values, first), to[0] + i * size_of(Type));
    store_eight<Type>(_mm256_mul_ps(values, second), to[1] + i * size_of(Type));
  }
  return i;
}
#endif

/// to_a = direction * scale_a, to_b = direction * scale_b, values [count] of `Type` each. `direction` may be `to_a`.
template <ElementType Type>
inline void scale_to_both(const std::byte* direction, std::size_t count, std::array<float, 2> scales,
                          std::array<std::byte*, 2> to) noexcept {
  std::size_t i = 0;
#if KRUL_HAS_AVX2
  if (use_avx2()) i = scale_to_both_avx2<Type>(direction, count, scales, to);
#endif
  for (; i < count; ++i) {
    const float value = load_value<Type>(direction + i * size_of(Type));
    store_value<Type>(value * scales[0], to[0] + i * size_of(Type));
    store_value<Type>(value * scales[1], to[1] + i * size_of(Type));
  }
}

}  // namespace krul::detail
