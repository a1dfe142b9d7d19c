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

/// a, b [n]
[[nodiscard]] inline VectorPair compare_vectors(std::span<const float> a, std::span<const float> b) noexcept {
  std::array<float, 16> aa{}, bb{}, ab{};  // as many sums as keep the adders busy; they shorten the rounding error too
  std::size_t i = 0;
#if defined(__AVX2__) && defined(__F16C__)
  __m256 aa8[2] = {}, bb8[2] = {}, ab8[2] = {};
  for (; i + 16 <= a.size(); i += 16)
    for (std::size_t half = 0; half < 2; ++half) {
      const __m256 x = _mm256_loadu_ps(&a[i + 8 * half]), y = _mm256_loadu_ps(&b[i + 8 * half]);
      aa8[half] = _mm256_add_ps(aa8[half], _mm256_mul_ps(x, x));
      bb8[half] = _mm256_add_ps(bb8[half], _mm256_mul_ps(y, y));
      ab8[half] = _mm256_add_ps(ab8[half], _mm256_mul_ps(x, y));
    }
  for (std::size_t half = 0; half < 2; ++half) {
    _mm256_storeu_ps(&aa[8 * half], aa8[half]);
    _mm256_storeu_ps(&bb[8 * half], bb8[half]);
    _mm256_storeu_ps(&ab[8 * half], ab8[half]);
  }
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

/// to_a = direction * scale_a, to_b = direction * scale_b, values [count] of `Type` each. `direction` may be `to_a`.
template <ElementType Type>
inline void scale_to_both(const std::byte* direction, std::size_t count, std::array<float, 2> scales,
                          std::array<std::byte*, 2> to) noexcept {
  std::size_t i = 0;
#if defined(__AVX2__) && defined(__F16C__)
  const __m256 first = _mm256_set1_ps(scales[0]), second = _mm256_set1_ps(scales[1]);
  for (; i + 8 <= count; i += 8) {
    const __m256 values = load_eight<Type>(direction + i * size_of(Type));
    store_eight<Type>(_mm256_mul_ps(values, first), to[0] + i * size_of(Type));
    store_eight<Type>(_mm256_mul_ps(values, second), to[1] + i * size_of(Type));
  }
#endif
  for (; i < count; ++i) {
    const float value = load_value<Type>(direction + i * size_of(Type));
    store_value<Type>(value * scales[0], to[0] + i * size_of(Type));
    store_value<Type>(value * scales[1], to[1] + i * size_of(Type));
  }
}

}  // namespace krul::detail
