#pragma once

#include <cstddef>
#include <span>

#include "krul/core/error.hpp"
#include "krul/model/gguf_type.hpp"

namespace krul {

/// What 32 neighbouring weights of four bits share: weight = minimum + scale * code, with a whole code from 0 to 15.
struct FourBitBlock {
  float scale = 0;
  float minimum = 0;
};
inline constexpr std::size_t four_bit_values = 32;

/// Whether a type holds its values in such blocks.
[[nodiscard]] constexpr bool has_four_bits(GgufType type) noexcept {
  return type == GgufType::q4_0 || type == GgufType::q4_1 || type == GgufType::q4_k;
}

/// Scales and minima of the values that dequantize reads from the same bytes.
/// Fails with invalid_argument if `blocks` is not exactly what the values take, unsupported if the type has none.
/// @param blocks  as for dequantize
/// @param out     [values / 32]
/// @complexity    O(n); several threads may work on different rows of a tensor
[[nodiscard]] Status read_four_bit_blocks(GgufType type, std::span<const std::byte> blocks,
                                          std::span<FourBitBlock> out);

}  // namespace krul
