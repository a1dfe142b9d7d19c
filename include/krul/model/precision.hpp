#pragma once

#include <cstdint>
#include <string_view>

namespace krul {

/// What the factors of matrix products are rounded to. Sums are kept in f32; in int8, those of a group of inputs are
/// exact.
enum class Precision : std::uint8_t { f32, bf16, int8 };

[[nodiscard]] constexpr std::string_view name(Precision precision) noexcept {
  constexpr std::string_view names[] = {"f32", "bf16", "int8"};
  return names[static_cast<std::size_t>(precision)];
}

/// Largest rounding error of a factor, relative to its size; in int8, relative to the root mean square of the values
/// that share a scale, 64 at most, of which the largest may be 8 times as large and is 127 steps.
[[nodiscard]] constexpr double unit_roundoff(Precision precision) noexcept {
  return precision == Precision::f32 ? 0x1p-24 : precision == Precision::bf16 ? 0x1p-8 : 8.0 / 254;
}

/// Which kernels multiply.
enum class KernelChoice : std::uint8_t { automatic, eigen, onednn, krul };

[[nodiscard]] constexpr std::string_view name(KernelChoice choice) noexcept {
  constexpr std::string_view names[] = {"auto", "eigen", "onednn", "krul"};
  return names[static_cast<std::size_t>(choice)];
}

}  // namespace krul
