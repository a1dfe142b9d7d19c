#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "krul/core/element_type.hpp"
#include "krul/core/half.hpp"
#include "krul/cuda/kernel_block.hpp"

namespace krul::cuda {

[[nodiscard]] KRUL_DEVICE inline unsigned count_bits(std::uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return static_cast<unsigned>(__popc(bits));
#else
  return static_cast<unsigned>(std::popcount(bits));
#endif
}

/// @pre bits != 0
[[nodiscard]] KRUL_DEVICE inline unsigned lowest_bit(std::uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return static_cast<unsigned>(__ffs(static_cast<int>(bits))) - 1;
#else
  return static_cast<unsigned>(std::countr_zero(bits));
#endif
}

[[nodiscard]] KRUL_DEVICE inline float float_of_bits(std::uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(bits);
#else
  return std::bit_cast<float>(bits);
#endif
}

[[nodiscard]] KRUL_DEVICE inline std::uint32_t bits_of_float(float value) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(value);
#else
  return std::bit_cast<std::uint32_t>(value);
#endif
}

[[nodiscard]] KRUL_DEVICE inline bool is_finite(float value) {
  return (bits_of_float(value) & 0x7f800000U) != 0x7f800000U;
}

/// a * b + c, rounded once.
[[nodiscard]] KRUL_DEVICE inline float fused(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#else
  return std::fma(a, b, c);
#endif
}

/// To the nearest whole number, ties to even, of magnitudes below 2^22.
[[nodiscard]] KRUL_DEVICE inline std::int32_t nearest_whole(float value) {
  return static_cast<std::int32_t>(bits_of_float(value + 12582912.0F)) - 0x4b400000;
}

/// The sum of four products of bytes with their signs, and c.
[[nodiscard]] KRUL_DEVICE inline std::int32_t add_byte_products(std::uint32_t a, std::uint32_t b, std::int32_t c) {
#if defined(__CUDA_ARCH__)
  return __dp4a(static_cast<int>(a), static_cast<int>(b), c);
#else
  for (int shift = 0; shift < 32; shift += 8)
    c += static_cast<std::int8_t>(a >> shift) * static_cast<std::int8_t>(b >> shift);
  return c;
#endif
}

/// Two bytes at any alignment, little-endian.
[[nodiscard]] KRUL_DEVICE inline std::uint32_t two_bytes(const std::byte* from) {
  return static_cast<std::uint32_t>(from[0]) | static_cast<std::uint32_t>(from[1]) << 8;
}

/// As float_from_f16 and f16_from_float, for every number; a NaN stays one.
[[nodiscard]] KRUL_DEVICE inline float float_of_f16(std::uint32_t half) {
#if defined(__CUDA_ARCH__)
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(static_cast<std::uint16_t>(half)));
  return value;
#else
  return float_from_f16(static_cast<std::uint16_t>(half));
#endif
}
[[nodiscard]] KRUL_DEVICE inline std::uint32_t f16_of_float(float value) {
#if defined(__CUDA_ARCH__)
  std::uint16_t half;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(value));
  return half;
#else
  return f16_from_float(value);
#endif
}

/// As bf16_from_float.
[[nodiscard]] KRUL_DEVICE inline std::uint32_t bf16_of_float(float value) {
  const std::uint32_t bits = bits_of_float(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return bits >> 16 | 0x40U;
  return (bits + 0x7fffU + (bits >> 16 & 1U)) >> 16;
}

/// Value i of values of a type, and its inverse; to nearest even.
[[nodiscard]] KRUL_DEVICE inline float load_value(ElementType type, const void* values, std::size_t i) {
  if (type == ElementType::f32) return static_cast<const float*>(values)[i];
  const std::uint32_t half = static_cast<const std::uint16_t*>(values)[i];
  return type == ElementType::f16 ? float_of_f16(half) : float_of_bits(half << 16);
}
KRUL_DEVICE inline void store_value(ElementType type, float value, void* values, std::size_t i) {
  if (type == ElementType::f32) {
    static_cast<float*>(values)[i] = value;
  } else {
    static_cast<std::uint16_t*>(values)[i] =
        static_cast<std::uint16_t>(type == ElementType::f16 ? f16_of_float(value) : bf16_of_float(value));
  }
}

}  // namespace krul::cuda
