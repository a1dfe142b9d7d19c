#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "krul/core/element_type.hpp"
#include "krul/cuda/kernel_block.hpp"
#include "krul/cuda/kernels/device_bits.hpp"

/// Before a loop over an array that a device is to hold in registers.
#if defined(__CUDACC__)
#define KRUL_UNROLL _Pragma("unroll")
#else
#define KRUL_UNROLL
#endif

namespace krul::cuda {

/// 2^value, off by at most 2^-22 of itself; exactly 1 for 0, 0 for -infinity, and on a device for what is below 2^-126.
/// @source PTX ISA, ex2.approx.ftz.f32
[[nodiscard]] KRUL_DEVICE inline float exp2_of(float value) {
#if defined(__CUDA_ARCH__)
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(value));
  return result;
#else
  return std::exp2(value);
#endif
}

/// The logarithm to base 2, off by at most 1 in the last place.
[[nodiscard]] KRUL_DEVICE inline float log2_of(float value) {
#if defined(__CUDA_ARCH__)
  return ::log2f(value);
#else
  return std::log2(value);
#endif
}

/// 1 / sqrt(value) and e^value, off by at most 2 in the last place.
[[nodiscard]] KRUL_DEVICE inline float inverse_root(float value) {
#if defined(__CUDA_ARCH__)
  return 1.0F / ::sqrtf(value);
#else
  return 1.0F / std::sqrt(value);
#endif
}
[[nodiscard]] KRUL_DEVICE inline float exponential(float value) {
#if defined(__CUDA_ARCH__)
  return ::expf(value);
#else
  return std::exp(value);
#endif
}

/// The larger one, or the one that is a number.
[[nodiscard]] KRUL_DEVICE inline float larger(float a, float b) {
#if defined(__CUDA_ARCH__)
  return ::fmaxf(a, b);
#else
  return std::fmax(a, b);
#endif
}

[[nodiscard]] KRUL_DEVICE inline float infinity() {
  return float_of_bits(0x7f800000U);
}

/// Both rounded to f16 or bf16, to nearest even, in one word. A NaN stays one.
[[nodiscard]] KRUL_DEVICE inline std::uint32_t packed_halves(ElementType half, float low, float high) {
#if defined(__CUDA_ARCH__)
  std::uint32_t word;
  if (half == ElementType::f16)
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  else
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
#else
  return half == ElementType::f16 ? f16_of_float(low) | f16_of_float(high) << 16
                                  : bf16_of_float(low) | bf16_of_float(high) << 16;
#endif
}

/// Values i and i + 1 of values of a type; i is even.
KRUL_DEVICE inline void store_pair(ElementType type, const float (&pair)[2], void* values, std::size_t i) {
  if (type == ElementType::f32) {
    static_cast<float*>(values)[i] = pair[0];
    static_cast<float*>(values)[i + 1] = pair[1];
  } else {
    static_cast<std::uint32_t*>(values)[i / 2] = packed_halves(type, pair[0], pair[1]);
  }
}

/// Eight halves, as they lie in memory aligned to 16 bytes.
struct alignas(16) EightHalves {
  std::uint32_t words[4];
};

}  // namespace krul::cuda
