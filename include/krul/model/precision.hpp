#pragma once

#include <cstdint>
#include <string_view>

namespace krul {

/// What the factors of matrix products are rounded to; sums are always kept in f32.
enum class Precision : std::uint8_t { f32, bf16 };

[[nodiscard]] constexpr std::string_view name(Precision precision) noexcept {
  return precision == Precision::f32 ? "f32" : "bf16";
}

/// Which kernels multiply.
enum class KernelChoice : std::uint8_t { automatic, eigen, onednn };

[[nodiscard]] constexpr std::string_view name(KernelChoice choice) noexcept {
  constexpr std::string_view names[] = {"auto", "eigen", "onednn"};
  return names[static_cast<std::size_t>(choice)];
}

}  // namespace krul
