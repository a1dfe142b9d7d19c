#include "krul/model/dequantize.hpp"

#include <cstdint>
#include <cstring>
#include <string>

#include "krul/core/half.hpp"
#include "krul/model/four_bit_block.hpp"

namespace krul {
namespace {

using Byte = std::uint8_t;

float f16_at(const Byte* at) {
  std::uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  return float_from_f16(bits);
}

float low(Byte byte) {
  return static_cast<float>(byte & 15);
}
float high(Byte byte) {
  return static_cast<float>(byte >> 4);
}

// In the types of 32 values, value j and value j + 16 share byte j: low half, high half.

void q4_0_block(const Byte* block, float* to) {
  const float scale = f16_at(block);
  for (int j = 0; j < 16; ++j) {
    to[j] = (low(block[2 + j]) - 8.0F) * scale;
    to[j + 16] = (high(block[2 + j]) - 8.0F) * scale;
  }
}

void q4_1_block(const Byte* block, float* to) {
  const float scale = f16_at(block);
  const float minimum = f16_at(block + 2);
  for (int j = 0; j < 16; ++j) {
    to[j] = low(block[4 + j]) * scale + minimum;
    to[j + 16] = high(block[4 + j]) * scale + minimum;
  }
}

/// Codes 0 to 31: four bits in `nibbles` [16], the fifth of value j in bit j of `fifths`.
void five_bit_codes(const Byte* fifths, const Byte* nibbles, float* to) {
  std::uint32_t bits;
  std::memcpy(&bits, fifths, sizeof bits);
  for (int j = 0; j < 16; ++j) {
    to[j] = static_cast<float>((nibbles[j] & 15U) | ((bits >> j & 1U) << 4));
    to[j + 16] = static_cast<float>((static_cast<std::uint32_t>(nibbles[j]) >> 4) | ((bits >> (j + 16) & 1U) << 4));
  }
}

void q5_0_block(const Byte* block, float* to) {
  const float scale = f16_at(block);
  five_bit_codes(block + 2, block + 6, to);
  for (int j = 0; j < 32; ++j) to[j] = (to[j] - 16.0F) * scale;
}

void q5_1_block(const Byte* block, float* to) {
  const float scale = f16_at(block);
  const float minimum = f16_at(block + 2);
  five_bit_codes(block + 4, block + 8, to);
  for (int j = 0; j < 32; ++j) to[j] = to[j] * scale + minimum;
}

void q8_0_block(const Byte* block, float* to) {
  const float scale = f16_at(block);
  for (int j = 0; j < 32; ++j) to[j] = static_cast<float>(static_cast<std::int8_t>(block[2 + j])) * scale;
}

/// Scale and minimum of one of the 8 sub-blocks of 32 values, 6 bits each, packed in 12 bytes: the first four whole
/// in bytes 0-3 and 4-7, the others' low four bits in bytes 8-11 and their high two on top of bytes 0-7.
struct SubBlock {
  float scale;
  float minimum;
};
SubBlock sub_block(const Byte* block, int index) {
  const float scale = f16_at(block);
  const float minimum = f16_at(block + 2);
  const Byte* packed = block + 4;
  if (index < 4)
    return {scale * static_cast<float>(packed[index] & 63), minimum * static_cast<float>(packed[index + 4] & 63)};
  const int scale_code = (packed[index + 4] & 15) | (packed[index - 4] >> 6 << 4);
  const int minimum_code = (packed[index + 4] >> 4) | (packed[index] >> 6 << 4);
  return {scale * static_cast<float>(scale_code), minimum * static_cast<float>(minimum_code)};
}

// In q4_k and q5_k each 32 bytes of nibbles hold two sub-blocks: the low halves, then the high halves.

void q4_k_block(const Byte* block, float* to) {
  for (int pair = 0; pair < 4; ++pair) {
    const Byte* nibbles = block + 16 + 32 * pair;
    const auto [scale_low, minimum_low] = sub_block(block, 2 * pair);
    const auto [scale_high, minimum_high] = sub_block(block, 2 * pair + 1);
    for (int j = 0; j < 32; ++j) {
      to[64 * pair + j] = low(nibbles[j]) * scale_low - minimum_low;
      to[64 * pair + j + 32] = high(nibbles[j]) * scale_high - minimum_high;
    }
  }
}

void q5_k_block(const Byte* block, float* to) {
  const Byte* fifths = block + 16;  // bit s of byte j belongs to value j of sub-block s
  for (int pair = 0; pair < 4; ++pair) {
    const Byte* nibbles = block + 48 + 32 * pair;
    const auto [scale_low, minimum_low] = sub_block(block, 2 * pair);
    const auto [scale_high, minimum_high] = sub_block(block, 2 * pair + 1);
    for (int j = 0; j < 32; ++j) {
      const int code_low = (nibbles[j] & 15) | ((fifths[j] >> (2 * pair) & 1) << 4);
      const int code_high = (nibbles[j] >> 4) | ((fifths[j] >> (2 * pair + 1) & 1) << 4);
      to[64 * pair + j] = static_cast<float>(code_low) * scale_low - minimum_low;
      to[64 * pair + j + 32] = static_cast<float>(code_high) * scale_high - minimum_high;
    }
  }
}

/// Two halves of 128 values; in each, 64 bytes of nibbles, 32 bytes of upper bit pairs and 8 scales of 16 values.
void q6_k_block(const Byte* block, float* to) {
  const float scale = f16_at(block + 208);
  for (int half = 0; half < 2; ++half) {
    const Byte* nibbles = block + 64 * half;
    const Byte* uppers = block + 128 + 32 * half;
    const Byte* scales = block + 192 + 8 * half;
    for (int run = 0; run < 8; ++run) {
      const float step = scale * static_cast<float>(static_cast<std::int8_t>(scales[run]));
      const int quarter = run / 2;
      const int from = run % 2 * 16;
      const Byte* lowers = nibbles + 32 * (quarter % 2) + from;
      for (int j = 0; j < 16; ++j) {
        const int code = (lowers[j] >> (quarter / 2 * 4) & 15) | ((uppers[from + j] >> (2 * quarter) & 3) << 4);
        to[128 * half + 16 * run + j] = static_cast<float>(code - 32) * step;
      }
    }
  }
}

Status check_size(std::size_t values, GgufTypeLayout layout, std::size_t bytes) {
  if (values % layout.block_values == 0 && bytes == values / layout.block_values * layout.block_bytes) return {};
  return fail(ErrorCode::invalid_argument, std::to_string(values) + " values of type " + std::string(layout.name) +
                                               " do not take " + std::to_string(bytes) + " bytes; give whole blocks");
}

template <auto block>
void each_block(GgufType type, std::span<const std::byte> blocks, std::span<float> values) {
  const auto [id, type_name, values_each, bytes_each] = layout_of(type);
  const auto* from = reinterpret_cast<const Byte*>(blocks.data());
  for (std::size_t done = 0; done < values.size(); done += values_each, from += bytes_each)
    block(from, values.data() + done);
}

}  // namespace

Status dequantize(GgufType type, std::span<const std::byte> blocks, std::span<float> values) {
  const auto layout = gguf_type_layout(static_cast<std::uint32_t>(type));
  if (!layout)
    return fail(ErrorCode::unsupported,
                "tensor type " + std::to_string(static_cast<std::uint32_t>(type)) + " is not one that krul reads");
  if (const auto status = check_size(values.size(), *layout, blocks.size()); !status) return status;
  switch (type) {
    case GgufType::f32:
      to_float(ElementType::f32, blocks, values);
      break;
    case GgufType::f16:
      to_float(ElementType::f16, blocks, values);
      break;
    case GgufType::bf16:
      to_float(ElementType::bf16, blocks, values);
      break;
    case GgufType::q4_0:
      each_block<q4_0_block>(type, blocks, values);
      break;
    case GgufType::q4_1:
      each_block<q4_1_block>(type, blocks, values);
      break;
    case GgufType::q5_0:
      each_block<q5_0_block>(type, blocks, values);
      break;
    case GgufType::q5_1:
      each_block<q5_1_block>(type, blocks, values);
      break;
    case GgufType::q8_0:
      each_block<q8_0_block>(type, blocks, values);
      break;
    case GgufType::q4_k:
      each_block<q4_k_block>(type, blocks, values);
      break;
    case GgufType::q5_k:
      each_block<q5_k_block>(type, blocks, values);
      break;
    case GgufType::q6_k:
      each_block<q6_k_block>(type, blocks, values);
      break;
  }
  return {};
}

Status read_four_bit_blocks(GgufType type, std::span<const std::byte> blocks, std::span<FourBitBlock> out) {
  const auto layout = gguf_type_layout(static_cast<std::uint32_t>(type));
  if (!layout || !has_four_bits(type))
    return fail(ErrorCode::unsupported, "tensor type " + std::to_string(static_cast<std::uint32_t>(type)) +
                                            " does not hold its values in blocks of four bits");
  if (const auto status = check_size(out.size() * four_bit_values, *layout, blocks.size()); !status) return status;
  const auto* from = reinterpret_cast<const Byte*>(blocks.data());
  const std::size_t each = layout->block_values / four_bit_values;
  for (std::size_t done = 0; done < out.size(); done += each, from += layout->block_bytes) {
    if (type == GgufType::q4_k) {
      for (std::size_t index = 0; index < each; ++index) {
        const auto [scale, minimum] = sub_block(from, static_cast<int>(index));
        out[done + index] = {scale, -minimum};
      }
    } else {
      const float scale = f16_at(from);
      out[done] = {scale, type == GgufType::q4_0 ? -8.0F * scale : f16_at(from + 2)};
    }
  }
  return {};
}

}  // namespace krul
