#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/model/gguf_type.hpp"

namespace krul::reference {

/// Twin of krul::dequantize: one value at a time, each written from the definition of its type, in double precision.
/// All results are exact: scales and minima in f16 are multiples of 2^-24, so every term of a sum is one too, and none
/// exceeds 2^28, which leaves a double a bit to spare.
/// @source  the block layouts of the GGUF format as its documentation and the `gguf` Python package define them
class BlockReader {
 public:
  BlockReader(GgufType type, std::span<const std::byte> block) : type_(type), block_(block) {}

  /// Value i of the block, 0 <= i < block_values(type).
  [[nodiscard]] double value(std::size_t i) const {
    switch (type_) {
      case GgufType::f32:
        return std::bit_cast<float>(static_cast<std::uint32_t>(bits(0, 0, 32)));
      case GgufType::f16:
        return half(0);
      case GgufType::bf16:
        return std::bit_cast<float>(static_cast<std::uint32_t>(bits(0, 0, 16)) << 16);
      case GgufType::q4_0:
        return half(0) * (nibble(2, i) - 8);
      case GgufType::q4_1:
        return half(0) * nibble(4, i) + half(2);
      case GgufType::q5_0:
        return half(0) * (nibble(6, i) + 16 * bit(2, i) - 16);
      case GgufType::q5_1:
        return half(0) * (nibble(8, i) + 16 * bit(4, i)) + half(2);
      case GgufType::q8_0:
        return half(0) * signed_byte(2 + i);
      case GgufType::q4_k:
        return half(0) * scale(i / 32) * nibble_of_pairs(16, i) - half(2) * minimum(i / 32);
      case GgufType::q5_k: {
        const double code = nibble_of_pairs(48, i) + 16 * number(bits(16 + i % 32, i / 32, 1));
        return half(0) * scale(i / 32) * code - half(2) * minimum(i / 32);
      }
      case GgufType::q6_k: {
        const std::size_t half_block = i / 128;
        const std::size_t quarter = i % 128 / 32;
        const double lower = number(bits(64 * half_block + 32 * (quarter % 2) + i % 32, quarter / 2 * 4, 4));
        const double upper = number(bits(128 + 32 * half_block + i % 32, 2 * quarter, 2));
        return half(208) * signed_byte(192 + i / 16) * (lower + 16 * upper - 32);
      }
    }
    return std::numeric_limits<double>::quiet_NaN();
  }

 private:
  static double number(std::uint64_t code) { return static_cast<double>(code); }

  /// `count` bits from bit `first` of byte `at` on, the lowest first.
  [[nodiscard]] std::uint64_t bits(std::size_t at, std::size_t first, std::size_t count) const {
    std::uint64_t code = 0;
    for (std::size_t k = 0; k < count; ++k) {
      const auto byte = std::to_integer<std::uint64_t>(block_[at + (first + k) / 8]);
      code |= (byte >> ((first + k) % 8) & 1) << k;
    }
    return code;
  }
  [[nodiscard]] double bit(std::size_t at, std::size_t i) const { return number(bits(at, i, 1)); }

  /// Types of 32 values: the first 16 in the low halves of 16 bytes, the others in the high halves.
  [[nodiscard]] double nibble(std::size_t at, std::size_t i) const { return number(bits(at + i % 16, i / 16 * 4, 4)); }

  /// Types of 256 values: each 32 bytes hold 32 values in their low halves and the next 32 in their high halves.
  [[nodiscard]] double nibble_of_pairs(std::size_t at, std::size_t i) const {
    return number(bits(at + i / 64 * 32 + i % 32, i % 64 / 32 * 4, 4));
  }

  [[nodiscard]] double signed_byte(std::size_t at) const {
    const double code = number(bits(at, 0, 8));
    return code < 128 ? code : code - 256;
  }

  /// Six-bit scale of sub-block s: four whole, then four whose upper two bits lie above the first four's.
  [[nodiscard]] double scale(std::size_t s) const {
    return number(s < 4 ? bits(4 + s, 0, 6) : bits(8 + s, 0, 4) + 16 * bits(s, 6, 2));
  }
  [[nodiscard]] double minimum(std::size_t s) const {
    return number(s < 4 ? bits(8 + s, 0, 6) : bits(8 + s, 4, 4) + 16 * bits(4 + s, 6, 2));
  }

  /// IEEE binary16 at a byte offset.
  [[nodiscard]] double half(std::size_t at) const {
    const double fraction = number(bits(at, 0, 10));
    const int exponent = static_cast<int>(bits(at, 10, 5));
    const double sign = bits(at, 15, 1) == 1 ? -1 : 1;
    if (exponent == 31)
      return fraction == 0 ? sign * std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
    return sign * (exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25));
  }

  GgufType type_;
  std::span<const std::byte> block_;
};

/// @param blocks  whole blocks
/// @return        [blocks * block_values(type)]
/// @throws        PreconditionError if `blocks` does not end with a block
[[nodiscard]] inline std::vector<double> dequantize(GgufType type, std::span<const std::byte> blocks) {
  const auto layout = layout_of(type);
  expects(blocks.size() % layout.block_bytes == 0, "dequantize: the last block is not whole");
  std::vector<double> values;
  for (std::size_t at = 0; at < blocks.size(); at += layout.block_bytes)
    for (std::size_t i = 0; i < layout.block_values; ++i)
      values.push_back(BlockReader(type, blocks.subspan(at, layout.block_bytes)).value(i));
  return values;
}

}  // namespace krul::reference
