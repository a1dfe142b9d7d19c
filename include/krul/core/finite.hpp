#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>

#include "krul/core/element_type.hpp"

namespace krul {

/// A model's numbers are infinite or no numbers: its weights are damaged, or too large for the arithmetic. Nothing that
/// follows from them means anything, so that nobody goes on by accident.
struct NotFiniteError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

namespace detail {

/// Whether some value has all bits of its exponent set. One pass without a branch.
template <class Bits>
[[nodiscard]] bool any_exponent_full(std::span<const std::byte> values, Bits exponent) noexcept {
  Bits found = 0;
  for (std::size_t i = 0; i < values.size() / sizeof(Bits); ++i) {
    Bits bits;
    std::memcpy(&bits, values.data() + i * sizeof(Bits), sizeof bits);
    found |= static_cast<Bits>((bits & exponent) == exponent);
  }
  return found != 0;
}

}  // namespace detail

/// Whether every value is finite.
/// @param values  of `type`, any alignment
[[nodiscard]] inline bool are_finite(ElementType type, std::span<const std::byte> values) noexcept {
  switch (type) {
    case ElementType::f16:
      return !detail::any_exponent_full<std::uint16_t>(values, 0x7C00);
    case ElementType::bf16:
      return !detail::any_exponent_full<std::uint16_t>(values, 0x7F80);
    case ElementType::f32:
      break;
  }
  return !detail::any_exponent_full<std::uint32_t>(values, 0x7F800000);
}

[[nodiscard]] inline bool are_finite(std::span<const float> values) noexcept {
  return are_finite(ElementType::f32, std::as_bytes(values));
}

}  // namespace krul
