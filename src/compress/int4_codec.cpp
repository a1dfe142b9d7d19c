#include "krul/compress/int4_codec.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include "int4_kernels.hpp"

namespace krul {
namespace {

constexpr std::size_t group_bytes(std::size_t values) noexcept {
  return 2 + (values + 1) / 2;
}

void expects_int4_rows(const Geometry& geometry, std::size_t row_bytes, std::size_t coded_bytes) {
  const std::size_t row = geometry.kv_row_bytes();
  expects(row > 0 && row_bytes % row == 0 && coded_bytes == Int4Codec().bytes(geometry, row_bytes / row),
          "Int4Codec: needs whole rows and exactly their coded bytes");
}

/// The smallest magnitude that the two bytes can hold and that is not below the largest of the group.
std::uint16_t stored_int4_peak(ElementType type, std::uint32_t magnitude, bool positive) noexcept {
  const auto sign = static_cast<std::uint16_t>(positive ? 0 : 0x8000U);
  const bool finite = magnitude < 0x7f800000U;
  const auto value = std::bit_cast<float>(magnitude);
  if (type == ElementType::f16) {
    if (!finite) return 0x7e00U;
    return magnitude == 0 ? 0 : static_cast<std::uint16_t>(sign | f16_from_float(value));
  }
  if (!finite) return 0x7fc0U;
  if (magnitude == 0 || (type == ElementType::f32 && magnitude < 0x00800000U)) return 0;
  // The largest finite peak is within half a step of the largest float, so it serves that too.
  return static_cast<std::uint16_t>(sign | std::min((magnitude + 0xffffU) >> 16, 0x7f7fU));
}

float int4_peak_from(ElementType type, std::uint16_t stored) noexcept {
  return type == ElementType::f16 ? float_from_f16(stored) : float_from_bf16(stored);
}

void encode_group(ElementType type, std::span<const float> group, std::byte* to) {
  std::array<float, detail::int4_group> values{};  // all loops have a fixed length, so that they become vector loops
  std::copy(group.begin(), group.end(), values.begin());
  std::int32_t greatest = 0;  // as bits: those of infinities and NaNs are larger than any finite one's
  for (const float value : values) greatest = std::max(greatest, std::bit_cast<std::int32_t>(value) & 0x7fffffff);
  std::int32_t above = 0;  // of two values as large, the positive one is the peak
  for (const float value : values) above |= std::bit_cast<std::int32_t>(value) == greatest ? 1 : 0;
  const std::uint16_t stored = stored_int4_peak(type, static_cast<std::uint32_t>(greatest), above != 0);
  to[0] = static_cast<std::byte>(stored & 0xffU);
  to[1] = static_cast<std::byte>(stored >> 8);
  const float peak = int4_peak_from(type, stored);
  std::array<std::uint8_t, detail::int4_group> codes{};
  if (peak != 0 && !std::isnan(peak))
    for (std::size_t i = 0; i < codes.size(); ++i)
      codes[i] = static_cast<std::uint8_t>(std::min(15, 8 - detail::nearest_int(values[i] / peak * 8.0F)));
  const std::size_t half = (group.size() + 1) / 2;
  if (group.size() % 2 != 0) codes[group.size()] = 0;
  for (std::size_t i = 0; i < half; ++i) to[2 + i] = static_cast<std::byte>(codes[i] | codes[half + i] << 4);
}

template <ElementType Type>
Status decode_int4_as(std::size_t head_dim, std::span<const std::byte> from, std::span<std::byte> rows) {
  const std::byte* next = from.data();
  bool sound = true;
  for (std::byte *head = rows.data(), *end = head + rows.size(); head != end; head += head_dim * size_of(Type))
    for (std::size_t at = 0; at < head_dim; at += detail::int4_group) {
      const std::size_t count = std::min(detail::int4_group, head_dim - at), coded = group_bytes(count);
      const auto stored =
          static_cast<std::uint16_t>(std::to_integer<unsigned>(next[0]) | std::to_integer<unsigned>(next[1]) << 8);
      const float peak = int4_peak_from(Type, stored);
      sound = sound && (count % 2 == 0 || std::to_integer<unsigned>(next[coded - 1]) < 16);
      if (peak == 0 || !std::isfinite(peak))
        sound = sound && !std::isinf(peak) && stored != 0x8000U &&
                std::all_of(next + 2, next + coded, [](std::byte code) { return code == std::byte{0}; });
      detail::int4_decode_group<Type>(next + 2, count, peak * 0.125F, head + at * size_of(Type));
      next += coded;
    }
  if (!sound) return fail(ErrorCode::corrupt, "int4 rows hold a peak or a code that no encoder writes: recompute them");
  return {};
}

}  // namespace

std::size_t Int4Codec::bytes(const Geometry& geometry, std::size_t rows) const noexcept {
  const std::size_t whole = geometry.head_dim / detail::int4_group, rest = geometry.head_dim % detail::int4_group;
  return rows * geometry.kv_heads * (whole * group_bytes(detail::int4_group) + (rest > 0 ? group_bytes(rest) : 0));
}

void Int4Codec::encode(const Geometry& geometry, std::span<const std::byte> rows, std::span<std::byte> to) const {
  expects_int4_rows(geometry, rows.size(), to.size());
  const ElementType type = geometry.cache_type;
  const std::size_t head_bytes = geometry.head_dim * size_of(type);
  std::vector<float> head(geometry.head_dim);
  for (; !rows.empty(); rows = rows.subspan(head_bytes)) {
    to_float(type, rows.first(head_bytes), head);
    for (std::size_t at = 0; at < head.size(); at += detail::int4_group) {
      const auto group = std::span<const float>(head).subspan(at, std::min(detail::int4_group, head.size() - at));
      encode_group(type, group, to.data());
      to = to.subspan(group_bytes(group.size()));
    }
  }
}

Status Int4Codec::decode(const Geometry& geometry, std::span<const std::byte> from, std::span<std::byte> rows) const {
  expects_int4_rows(geometry, rows.size(), from.size());
  switch (geometry.cache_type) {
    case ElementType::f32:
      return decode_int4_as<ElementType::f32>(geometry.head_dim, from, rows);
    case ElementType::f16:
      return decode_int4_as<ElementType::f16>(geometry.head_dim, from, rows);
    case ElementType::bf16:
      return decode_int4_as<ElementType::bf16>(geometry.head_dim, from, rows);
  }
  return fail(ErrorCode::unsupported, "int4 rows cannot be decoded to this cache type: use f32, f16 or bf16");
}

}  // namespace krul
