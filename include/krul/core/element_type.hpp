#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace krul {

/// How one value of the KV cache is held.
enum class ElementType : std::uint8_t { f32, f16, bf16 };

/// Bytes of one value.
[[nodiscard]] constexpr std::size_t size_of(ElementType type) noexcept {
  return type == ElementType::f32 ? 4 : 2;
}

[[nodiscard]] constexpr std::string_view name(ElementType type) noexcept {
  constexpr std::string_view names[] = {"f32", "f16", "bf16"};
  return names[static_cast<std::size_t>(type)];
}

[[nodiscard]] constexpr std::optional<ElementType> element_type_from(std::string_view text) noexcept {
  for (const auto type : {ElementType::f32, ElementType::f16, ElementType::bf16})
    if (text == name(type)) return type;
  return std::nullopt;
}

/// Largest relative rounding error of one value in the normal range (half a unit in the last place).
[[nodiscard]] constexpr double unit_roundoff(ElementType type) noexcept {
  return type == ElementType::f32 ? 0x1p-24 : type == ElementType::f16 ? 0x1p-11 : 0x1p-8;
}

}  // namespace krul
