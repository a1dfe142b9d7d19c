#pragma once

#include <cstddef>
#include <cstdint>

#include "krul/cuda/kernel_block.hpp"
#include "krul/cuda/kernels/device_bits.hpp"

namespace krul::cuda {

/// Heads of rows as a row codec wrote them, and where their values go.
struct CodedHeads {
  ElementType type;        ///< of the cache
  const std::byte* from;   ///< coded bytes of all heads, one after another
  void* to;                ///< [heads, D] of `type`
  std::uint32_t heads;     ///< rows * G
  std::uint32_t dim;       ///< D
  std::uint32_t* unsound;  ///< becomes 1 if no encoder can have written these bytes; then `to` holds no meaning
};

namespace detail {

/// Calls visit(head) for the heads of this warp: the warps of the grid share them.
template <KernelBlock Block, class Visit>
KRUL_DEVICE void for_heads(Block& block, std::uint32_t heads, Visit&& visit) {
  const unsigned warps = block.threads() / warp_lanes;
  for (std::uint32_t head = block.index() * warps + warp_of(block); head < heads; head += block.blocks() * warps)
    visit(head);
}

inline constexpr std::uint32_t quiet_nan = 0x7fc00000U;

}  // namespace detail

/// Rows that FloatCodec wrote: two bytes a value.
/// @complexity one pass over what is read and written, like the others here; a warp a head
struct ExpandFloat {
  CodedHeads rows;
  ElementType stored;  ///< f16 or bf16

  template <KernelBlock Block>
  KRUL_DEVICE void operator()(Block& block) const {
    detail::for_heads(block, rows.heads, [&](std::uint32_t head) {
      for (std::uint32_t i = lane_of(block); i < rows.dim; i += warp_lanes) {
        const std::size_t at = std::size_t{head} * rows.dim + i;
        const std::uint32_t bits = two_bytes(rows.from + 2 * at);
        if (stored == rows.type)
          static_cast<std::uint16_t*>(rows.to)[at] = static_cast<std::uint16_t>(bits);
        else
          store_value(rows.type, stored == ElementType::f16 ? float_of_f16(bits) : float_of_bits(bits << 16), rows.to,
                      at);
      }
    });
  }
};

/// Rows that Int8Codec wrote, to the same bits as its decode.
struct ExpandInt8 {
  CodedHeads rows;

  template <KernelBlock Block>
  KRUL_DEVICE void operator()(Block& block) const {
    detail::for_heads(block, rows.heads, [&](std::uint32_t head) {
      const std::byte* const from = rows.from + std::size_t{head} * (2 + rows.dim);
      const std::uint32_t stored = two_bytes(from);
      const float peak = rows.type == ElementType::f16    ? float_of_f16(stored)
                         : rows.type == ElementType::bf16 ? float_of_bits(stored << 16)
                                                          : float_of_bits(stored << 15);
      const bool plain = peak > 0 && is_finite(peak);
      bool sound = plain || bits_of_float(peak) >> 31 == 0;
      sound = sound && (bits_of_float(peak) & 0x7fffffffU) != 0x7f800000U;
      for (std::uint32_t i = lane_of(block); i < rows.dim; i += warp_lanes) {
        const auto code = static_cast<std::int8_t>(from[2 + i]);
        // In this order, and never fused: a code of 127 is the peak itself.
        float value = static_cast<float>(code) * (1.0F / 127.0F) * peak;
        if (!plain) value = peak == 0 ? 0.0F : float_of_bits(detail::quiet_nan);
        sound = sound && (plain ? code != -128 : code == 0);
        store_value(rows.type, value, rows.to, std::size_t{head} * rows.dim + i);
      }
      if (!sound) *rows.unsound = 1;  // whoever finds it writes the same
    });
  }
};

/// Rows that Int4Codec wrote, to the same bits as its decode.
struct ExpandInt4 {
  CodedHeads rows;

  static constexpr std::uint32_t group = 32;  ///< values that share a peak
  [[nodiscard]] static constexpr KRUL_DEVICE std::uint32_t group_bytes(std::uint32_t values) {
    return values == 0 ? 0 : 2 + (values + 1) / 2;
  }

  template <KernelBlock Block>
  KRUL_DEVICE void operator()(Block& block) const {
    const std::uint32_t whole = rows.dim / group, rest = rows.dim % group;
    const std::size_t head_bytes = std::size_t{whole} * group_bytes(group) + group_bytes(rest);
    detail::for_heads(block, rows.heads, [&](std::uint32_t head) {
      bool sound = true;
      for (std::uint32_t i = lane_of(block); i < rows.dim; i += warp_lanes) {
        const std::uint32_t in_group = i % group, count = i < whole * group ? group : rest, half = (count + 1) / 2;
        const std::byte* const from = rows.from + head * head_bytes + (i / group) * group_bytes(group);
        const std::uint32_t stored = two_bytes(from);
        const float peak = rows.type == ElementType::f16 ? float_of_f16(stored) : float_of_bits(stored << 16);
        const auto both = static_cast<std::uint32_t>(from[2 + (in_group < half ? in_group : in_group - half)]);
        const auto code = static_cast<std::int32_t>(in_group < half ? both & 15U : both >> 4);
        store_value(rows.type, static_cast<float>(8 - code) * (peak * 0.125F), rows.to,
                    std::size_t{head} * rows.dim + i);
        if (peak == 0 || !is_finite(peak))
          sound = sound && (bits_of_float(peak) & 0x7fffffffU) != 0x7f800000U && stored != 0x8000U && both == 0;
        if (count % 2 != 0 && in_group == half - 1) sound = sound && both < 16;  // the half byte after the last code
      }
      if (!sound) *rows.unsound = 1;
    });
  }
};

/// Whether all values of rows are finite. The threads of the grid share them.
struct FindNotFinite {
  ElementType type;
  const void* values;  ///< [count] of `type`
  std::size_t count;
  std::uint32_t* found;  ///< becomes 1 if one is not finite

  template <KernelBlock Block>
  KRUL_DEVICE void operator()(Block& block) const {
    bool finite = true;
    const std::size_t step = std::size_t{block.blocks()} * block.threads();
    for (std::size_t i = std::size_t{block.index()} * block.threads() + block.thread(); i < count; i += step)
      finite = finite && is_finite(load_value(type, values, i));
    if (!finite) *found = 1;  // whoever finds it writes the same
  }
};

}  // namespace krul::cuda
