#include "krul/compress/int8_codec.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "int8_kernels.hpp"

namespace krul {
namespace {

constexpr std::size_t int8_peak_bytes = 2;

void expects_int8_rows(const Geometry& geometry, std::size_t row_bytes, std::size_t coded_bytes) {
  const std::size_t row = geometry.kv_row_bytes();
  expects(row > 0 && row_bytes % row == 0 && coded_bytes == Int8Codec().bytes(geometry, row_bytes / row),
          "Int8Codec: needs whole rows and exactly their coded bytes");
}

std::uint16_t stored_int8_peak(ElementType type, std::uint32_t magnitude) noexcept {
  const bool finite = magnitude < 0x7f800000U;
  const auto value = std::bit_cast<float>(magnitude);
  if (type == ElementType::f16) return finite ? f16_from_float(value) : 0x7e00U;
  if (type == ElementType::bf16) return finite ? bf16_from_float(value) : 0x7fc0U;
  if (!finite) return 0xffffU;
  if (magnitude < 0x00800000U) return 0;
  // The largest finite peak is within half a step of the largest float, so it serves that too.
  return static_cast<std::uint16_t>(std::min((magnitude + 0x7fffU) >> 15, 0xfeffU));
}

float int8_peak_from(ElementType type, std::uint16_t stored) noexcept {
  if (type == ElementType::f16) return float_from_f16(stored);
  if (type == ElementType::bf16) return float_from_bf16(stored);
  return std::bit_cast<float>(static_cast<std::uint32_t>(stored) << 15);
}

Status damaged_int8() {
  return fail(ErrorCode::corrupt, "int8 rows hold a peak or a code that no encoder writes: recompute them");
}

template <ElementType Type>
Status decode_int8_as(std::size_t head_dim, std::span<const std::byte> from, std::span<std::byte> rows) {
  const std::size_t head_bytes = head_dim * size_of(Type);
#if KRUL_HAS_AVX2
  const bool vectors = head_dim % 8 == 0 && detail::use_avx2();
#endif
  for (; !rows.empty(); rows = rows.subspan(head_bytes), from = from.subspan(int8_peak_bytes + head_dim)) {
    bool sound = true;
#if KRUL_HAS_AVX2
    if (vectors) {
      const std::size_t n = rows.size() / head_bytes;
      const std::size_t done = detail::int8_decode_heads_avx2<Type>(from.data(), n, head_dim, rows.data(), sound);
      if (!sound) return damaged_int8();
      if (done == n) return {};
      from = from.subspan(done * (int8_peak_bytes + head_dim));
      rows = rows.subspan(done * head_bytes);
    }
#endif
    const auto stored =
        static_cast<std::uint16_t>(std::to_integer<unsigned>(from[0]) | std::to_integer<unsigned>(from[1]) << 8);
    const float peak = int8_peak_from(Type, stored);
    const auto codes = from.subspan(int8_peak_bytes, head_dim);
    sound = !std::signbit(peak);
    if (peak > 0 && std::isfinite(peak)) {
      sound = sound && detail::int8_decode_head<Type>(codes.data(), head_dim, peak, rows.data());
    } else {
      const float constant = peak == 0 ? 0.0F : std::numeric_limits<float>::quiet_NaN();
      sound = sound && !std::isinf(peak) &&
              std::all_of(codes.begin(), codes.end(), [](std::byte code) { return code == std::byte{0}; });
      for (std::size_t i = 0; i < head_dim; ++i)
        from_float(Type, {&constant, 1}, rows.subspan(i * size_of(Type), size_of(Type)));
    }
    if (!sound) return damaged_int8();
  }
  return {};
}

}  // namespace

void Int8Codec::encode(const Geometry& geometry, std::span<const std::byte> rows, std::span<std::byte> to) const {
  expects_int8_rows(geometry, rows.size(), to.size());
  const ElementType type = geometry.cache_type;
  const std::size_t head_bytes = geometry.head_dim * size_of(type);
  std::vector<float> head(geometry.head_dim);
  for (; !rows.empty(); rows = rows.subspan(head_bytes), to = to.subspan(int8_peak_bytes + head.size())) {
    to_float(type, rows.first(head_bytes), head);
    std::uint32_t magnitude = 0;  // as bits: those of infinities and NaNs are larger than any finite one's
    for (const float value : head) magnitude = std::max(magnitude, std::bit_cast<std::uint32_t>(value) & 0x7fffffffU);
    const std::uint16_t stored = stored_int8_peak(type, magnitude);
    to[0] = static_cast<std::byte>(stored & 0xffU);
    to[1] = static_cast<std::byte>(stored >> 8);
    const float peak = int8_peak_from(type, stored);
    const auto codes = to.subspan(int8_peak_bytes, head.size());
    if (peak > 0) {
      detail::int8_encode_head(head.data(), head.size(), peak, codes.data());
    } else {
      std::fill(codes.begin(), codes.end(), std::byte{0});  // zeros, or a NaN for a peak
    }
  }
}

Status Int8Codec::decode(const Geometry& geometry, std::span<const std::byte> from, std::span<std::byte> rows) const {
  expects_int8_rows(geometry, rows.size(), from.size());
  switch (geometry.cache_type) {
    case ElementType::f32:
      return decode_int8_as<ElementType::f32>(geometry.head_dim, from, rows);
    case ElementType::f16:
      return decode_int8_as<ElementType::f16>(geometry.head_dim, from, rows);
    case ElementType::bf16:
      return decode_int8_as<ElementType::bf16>(geometry.head_dim, from, rows);
  }
  return fail(ErrorCode::unsupported, "int8 rows cannot be decoded to this cache type: use f32, f16 or bf16");
}

}  // namespace krul
