#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "krul/compress/coding_numbers.hpp"
#include "krul/cuda/decoding_rooms.hpp"
#include "krul/cuda/kernels/expand_rows.hpp"
#include "krul/cuda/touching.hpp"

namespace krul::cuda::detail {

// As coding_numbers.hpp counts row codecs.
inline constexpr unsigned exact_codec = 1, f16_codec = 2, bf16_codec = 3, int8_codec = 4, int4_codec = 5;
static_assert(row_codecs_by_number[exact_codec - 1] == "exact" && row_codecs_by_number[int4_codec - 1] == "int4");

/// What the layers of a coding share, and its row codec.
[[nodiscard]] constexpr unsigned sharing_number(std::uint8_t coding) noexcept {
  return coding >> 4U;
}
[[nodiscard]] constexpr unsigned codec_number(std::uint8_t coding) noexcept {
  return coding & 0xfU;
}
/// Whether a device has a kernel for the row codec of a coding.
[[nodiscard]] constexpr bool expands(std::uint8_t coding) noexcept {
  return codec_number(coding) >= exact_codec && codec_number(coding) <= int4_codec;
}

/// Launches a kernel whose warps share so much work, a warp each.
/// @throws ResultError if the device fails, like all here
template <DeviceApi Device, class Kernel>
void launch_warps(DecodingRooms<Device>& rooms, const Kernel& kernel, std::span<const TouchedBytes> touched,
                  std::size_t work) {
  constexpr unsigned warps_a_block = 4;
  const auto blocks = static_cast<unsigned>((work + warps_a_block - 1) / warps_a_block);
  if (blocks == 0) return;
  or_throw(rooms.device().launch(rooms.stream(), Touching{kernel, touched}, {blocks, warps_a_block * warp_lanes}));
}

/// Launches what expands rows of a codec other than exact.
template <DeviceApi Device>
void launch_expansion(DecodingRooms<Device>& rooms, unsigned codec, const CodedHeads& heads,
                      std::span<const TouchedBytes> touched) {
  if (codec == int8_codec)
    launch_warps(rooms, ExpandInt8{heads}, touched, heads.heads);
  else if (codec == int4_codec)
    launch_warps(rooms, ExpandInt4{heads}, touched, heads.heads);
  else
    launch_warps(rooms, ExpandFloat{heads, codec == f16_codec ? ElementType::f16 : ElementType::bf16}, touched,
                 heads.heads);
}

}  // namespace krul::cuda::detail
