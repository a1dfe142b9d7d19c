#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "krul/core/error.hpp"

namespace krul {

/// How the values of a tensor are held in a model file; the numbers are those of the GGUF format.
enum class GgufType : std::uint32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  bf16 = 30
};

/// One type's name and unit: `block_values` neighbouring values are coded together in `block_bytes` bytes.
struct GgufTypeLayout {
  GgufType type;
  std::string_view name;
  std::size_t block_values;
  std::size_t block_bytes;
};

/// Every type that krul reads. A block of q4_1, for example: scale and minimum in f16, then 32 values of 4 bits.
inline constexpr GgufTypeLayout gguf_types[] = {
    {GgufType::f32, "F32", 1, 4},       {GgufType::f16, "F16", 1, 2},       {GgufType::bf16, "BF16", 1, 2},
    {GgufType::q4_0, "Q4_0", 32, 18},   {GgufType::q4_1, "Q4_1", 32, 20},   {GgufType::q5_0, "Q5_0", 32, 22},
    {GgufType::q5_1, "Q5_1", 32, 24},   {GgufType::q8_0, "Q8_0", 32, 34},   {GgufType::q4_k, "Q4_K", 256, 144},
    {GgufType::q5_k, "Q5_K", 256, 176}, {GgufType::q6_k, "Q6_K", 256, 210},
};

/// The layout of the type with this number, if krul reads it.
[[nodiscard]] constexpr std::optional<GgufTypeLayout> gguf_type_layout(std::uint32_t type) noexcept {
  for (const auto& layout : gguf_types)
    if (static_cast<std::uint32_t>(layout.type) == type) return layout;
  return std::nullopt;
}

/// @throws PreconditionError if `type` is none of the enumerators
[[nodiscard]] constexpr GgufTypeLayout layout_of(GgufType type) {
  const auto found = gguf_type_layout(static_cast<std::uint32_t>(type));
  if (!found) throw PreconditionError("GgufType: not a type that krul reads");
  return *found;
}

/// Values that are coded together: a row's length is a multiple of it.
[[nodiscard]] constexpr std::size_t block_values(GgufType type) {
  return layout_of(type).block_values;
}
/// Bytes of one such block.
[[nodiscard]] constexpr std::size_t block_bytes(GgufType type) {
  return layout_of(type).block_bytes;
}
/// "Q4_1", as model files are named.
[[nodiscard]] constexpr std::string_view name(GgufType type) {
  return layout_of(type).name;
}

}  // namespace krul
