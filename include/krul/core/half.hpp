#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "krul/core/detail/avx2.hpp"
#include "krul/core/element_type.hpp"
#include "krul/core/error.hpp"

namespace krul {

/// Upper 16 bits of a float, rounded to nearest even. NaN stays NaN, infinities stay infinite.
[[nodiscard]] inline std::uint16_t bf16_from_float(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<std::uint16_t>((bits >> 16) | 0x40U);
  return static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

[[nodiscard]] inline float float_from_bf16(std::uint16_t value) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value) << 16);
}

namespace detail {

#if defined(__x86_64__)
// Instructions by their builtins: <immintrin.h> would cost whoever includes this header a second of compiling.
using FourFloats [[gnu::vector_size(16)]] = float;
using EightFloats [[gnu::vector_size(32)]] = float;
using EightHalves [[gnu::vector_size(16)]] = short;
inline constexpr int nearest_even = 0;
#endif

/// Conversions without processor support: the same bits as the instructions give, for every input.
[[nodiscard]] inline std::uint16_t plain_f16_from_float(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000U);
  const std::uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return static_cast<std::uint16_t>(sign | 0x7e00U | ((magnitude >> 13) & 0x3ffU));
  if (magnitude >= 0x477ff000U) return static_cast<std::uint16_t>(sign | 0x7c00U);
  if (magnitude < 0x38800000U) {  // subnormal in binary16: let the float adder do the rounding
    const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000U));
  }
  return static_cast<std::uint16_t>(sign | ((magnitude - 0x38000000U + 0xfffU + ((magnitude >> 13) & 1U)) >> 13));
}

[[nodiscard]] inline float plain_float_from_f16(std::uint16_t value) noexcept {
  const std::uint32_t sign = (value & 0x8000U) << 16;
  const std::uint32_t rest = value & 0x7fffU;
  if (rest > 0x7c00U) return std::bit_cast<float>(sign | 0x7fc00000U | ((rest & 0x3ffU) << 13));
  if (rest == 0x7c00U) return std::bit_cast<float>(sign | 0x7f800000U);
  const float magnitude = std::bit_cast<float>(rest << 13) * 0x1p112F;
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
}

}  // namespace detail

/// IEEE binary16, rounded to nearest even; beyond 65,504 + half a unit it becomes infinite. NaN becomes quiet.
[[nodiscard]] inline std::uint16_t f16_from_float(float value) noexcept {
#if defined(__F16C__)
  const detail::FourFloats floats = {value, 0, 0, 0};
  return static_cast<std::uint16_t>(__builtin_ia32_vcvtps2ph(floats, detail::nearest_even)[0]);
#elif defined(__aarch64__)
  asm("" : "+w"(value));  // or a conversion there and back is left out, and with it what makes NaN quiet
  const auto half = static_cast<__fp16>(value);
  std::uint16_t bits;
  std::memcpy(&bits, &half, sizeof bits);
  return bits;
#else
  return detail::plain_f16_from_float(value);
#endif
}

[[nodiscard]] inline float float_from_f16(std::uint16_t value) noexcept {
#if defined(__F16C__)
  const detail::EightHalves halves = {static_cast<short>(value), 0, 0, 0, 0, 0, 0, 0};
  return __builtin_ia32_vcvtph2ps(halves)[0];
#elif defined(__aarch64__)
  __fp16 half;
  std::memcpy(&half, &value, sizeof half);
  return static_cast<float>(half);
#else
  return detail::plain_float_from_f16(value);
#endif
}

namespace detail {

#if KRUL_HAS_AVX2
/// Whole vectors of eight values of f16 or bf16.
/// @return how many values were converted
KRUL_AVX2 inline std::size_t to_float_avx2(ElementType type, const std::byte* from, std::size_t count, float* to) {
  using EightBits [[gnu::vector_size(32)]] = std::uint32_t;
  using EightShorts [[gnu::vector_size(16)]] = std::uint16_t;
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    EightHalves packed;
    std::memcpy(&packed, from + 2 * i, sizeof packed);
    const EightFloats values = type == ElementType::f16
                                   ? __builtin_ia32_vcvtph2ps256(packed)
                                   : (EightFloats)(__builtin_convertvector((EightShorts)packed, EightBits) << 16);
    std::memcpy(to + i, &values, sizeof values);
  }
  return i;
}

/// The inverse, of f16.
KRUL_AVX2 inline std::size_t f16_from_float_avx2(const float* from, std::size_t count, std::byte* to) {
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    EightFloats values;
    std::memcpy(&values, from + i, sizeof values);
    const EightHalves packed = __builtin_ia32_vcvtps2ph256(values, nearest_even);
    std::memcpy(to + 2 * i, &packed, sizeof packed);
  }
  return i;
}
#endif

}  // namespace detail

/// Reads values of `type` as floats.
/// @param from  [n] values of `type`, any alignment
/// @param to    [n]
/// @throws PreconditionError if the sizes differ
inline void to_float(ElementType type, std::span<const std::byte> from, std::span<float> to) {
  expects(from.size() == to.size() * size_of(type), "to_float: source and destination differ in length");
  if (type == ElementType::f32) {
    if (!to.empty()) std::memcpy(to.data(), from.data(), from.size());
    return;
  }
  std::size_t i = 0;
#if KRUL_HAS_AVX2
  if (detail::use_avx2()) i = detail::to_float_avx2(type, from.data(), to.size(), to.data());
#endif
  for (; i < to.size(); ++i) {
    std::uint16_t bits;
    std::memcpy(&bits, from.data() + 2 * i, 2);
    to[i] = type == ElementType::f16 ? float_from_f16(bits) : float_from_bf16(bits);
  }
}

/// Rounds floats to `type`, to nearest even.
/// @param from  [n]
/// @param to    [n] values of `type`, any alignment
/// @throws PreconditionError if the sizes differ
inline void from_float(ElementType type, std::span<const float> from, std::span<std::byte> to) {
  expects(to.size() == from.size() * size_of(type), "from_float: source and destination differ in length");
  if (type == ElementType::f32) {
    if (!from.empty()) std::memcpy(to.data(), from.data(), to.size());
    return;
  }
  std::size_t i = 0;
#if KRUL_HAS_AVX2
  if (type == ElementType::f16 && detail::use_avx2())
    i = detail::f16_from_float_avx2(from.data(), from.size(), to.data());
#endif
  for (; i < from.size(); ++i) {
    const std::uint16_t bits = type == ElementType::f16 ? f16_from_float(from[i]) : bf16_from_float(from[i]);
    std::memcpy(to.data() + 2 * i, &bits, 2);
  }
}

}  // namespace krul
