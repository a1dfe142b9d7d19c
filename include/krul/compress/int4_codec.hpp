#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "krul/compress/detail/int4_kernels.hpp"
#include "krul/compress/row_codec.hpp"

namespace krul {

/// Half a byte a value and two bytes for each 32 of them: 0.5625 bytes a value.
///
/// Each head [D] is cut into groups of 32 values; the last may be shorter. A group of n is stored as its peak, the
/// value of largest magnitude with its sign (two bytes, little-endian), then ceil(n / 2) bytes of codes q in [0, 15].
/// Code q stands for (8 - q) * peak / 8: sixteen equal steps from the peak to -7/8 of it, of which the nearest is
/// taken, ties to even 8 - q. Byte i holds code i in its lower half and code i + ceil(n / 2) in its upper half, or 0
/// after the last. The peak is held as the cache's own type where that has two bytes (exact), and of an f32 as a bf16,
/// rounded away from zero.
///
/// @post encoding a decoded group gives the same bytes, but where peaks are subnormal: there is no drift
///
/// A group with a NaN or an infinity in it comes back as NaNs: damage stays visible instead of turning into numbers. A
/// group of an f32 cache whose peak is subnormal is stored as zeros; where the peak of a two-byte type is subnormal,
/// half the smallest subnormal adds to the error bound.
///
/// @source the signed peak and the groups of 32 are those of ggml's Q4_0 (second-hand); the form of the peak: ours
class Int4Codec {
 public:
  [[nodiscard]] std::string_view name() const noexcept { return "int4"; }
  [[nodiscard]] std::size_t bytes(const Geometry& geometry, std::size_t rows) const noexcept {
    const std::size_t whole = geometry.head_dim / detail::int4_group, rest = geometry.head_dim % detail::int4_group;
    return rows * geometry.kv_heads * (whole * group_bytes(detail::int4_group) + (rest > 0 ? group_bytes(rest) : 0));
  }

  /// @throws PreconditionError if a span's length does not fit
  void encode(const Geometry& geometry, std::span<const std::byte> rows, std::span<std::byte> to) const {
    expects_rows(geometry, rows.size(), to.size());
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

  /// @return corrupt if no encoder can have written these bytes; then `rows` holds no meaning
  /// @throws PreconditionError if a span's length does not fit
  [[nodiscard]] Status decode(const Geometry& geometry, std::span<const std::byte> from,
                              std::span<std::byte> rows) const {
    expects_rows(geometry, rows.size(), from.size());
    switch (geometry.cache_type) {
      case ElementType::f32:
        return decode_as<ElementType::f32>(geometry.head_dim, from, rows);
      case ElementType::f16:
        return decode_as<ElementType::f16>(geometry.head_dim, from, rows);
      case ElementType::bf16:
        return decode_as<ElementType::bf16>(geometry.head_dim, from, rows);
    }
    return fail(ErrorCode::unsupported, "int4 rows cannot be decoded to this cache type: use f32, f16 or bf16");
  }

  /// A whole step of peak / 8, where a value near -peak finds -7/8 of it as its nearest code (half a step elsewhere);
  /// the rounding to the cache's type; one rounding of floats in the encoder. An f32 peak above the largest bf16 is
  /// held as that, up to 2^-8 below.
  [[nodiscard]] double relative_error(ElementType type) const noexcept {
    return 0.125 + unit_roundoff(type) + 0x1p-24 + (type == ElementType::f32 ? 0x1p-8 : 0);
  }

 private:
  static constexpr std::size_t group_bytes(std::size_t values) noexcept { return 2 + (values + 1) / 2; }

  static void expects_rows(const Geometry& geometry, std::size_t row_bytes, std::size_t coded_bytes) {
    const std::size_t row = geometry.kv_row_bytes();
    expects(row > 0 && row_bytes % row == 0 && coded_bytes == Int4Codec{}.bytes(geometry, row_bytes / row),
            "Int4Codec: needs whole rows and exactly their coded bytes");
  }

  static void encode_group(ElementType type, std::span<const float> group, std::byte* to) {
    std::array<float, detail::int4_group> values{};  // all loops have a fixed length, so that they become vector loops
    std::copy(group.begin(), group.end(), values.begin());
    std::int32_t largest = 0;  // as bits: those of infinities and NaNs are larger than any finite one's
    for (const float value : values) largest = std::max(largest, std::bit_cast<std::int32_t>(value) & 0x7fffffff);
    std::int32_t above = 0;  // of two values as large, the positive one is the peak
    for (const float value : values) above |= std::bit_cast<std::int32_t>(value) == largest ? 1 : 0;
    const std::uint16_t stored = stored_peak(type, static_cast<std::uint32_t>(largest), above != 0);
    to[0] = static_cast<std::byte>(stored & 0xffU);
    to[1] = static_cast<std::byte>(stored >> 8);
    const float peak = peak_from(type, stored);
    std::array<std::uint8_t, detail::int4_group> codes{};
    if (peak != 0 && !std::isnan(peak))
      for (std::size_t i = 0; i < codes.size(); ++i)
        codes[i] = static_cast<std::uint8_t>(std::min(15, 8 - detail::nearest_int(values[i] / peak * 8.0F)));
    const std::size_t half = (group.size() + 1) / 2;
    if (group.size() % 2 != 0) codes[group.size()] = 0;
    for (std::size_t i = 0; i < half; ++i) to[2 + i] = static_cast<std::byte>(codes[i] | codes[half + i] << 4);
  }

  /// The smallest magnitude that the two bytes can hold and that is not below the largest of the group.
  static std::uint16_t stored_peak(ElementType type, std::uint32_t magnitude, bool positive) noexcept {
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

  static float peak_from(ElementType type, std::uint16_t stored) noexcept {
    return type == ElementType::f16 ? float_from_f16(stored) : float_from_bf16(stored);
  }

  template <ElementType Type>
  [[nodiscard]] static Status decode_as(std::size_t head_dim, std::span<const std::byte> from,
                                        std::span<std::byte> rows) {
    const std::byte* next = from.data();
    bool sound = true;
    for (std::byte *head = rows.data(), *end = head + rows.size(); head != end; head += head_dim * size_of(Type))
      for (std::size_t at = 0; at < head_dim; at += detail::int4_group) {
        const std::size_t count = std::min(detail::int4_group, head_dim - at), coded = group_bytes(count);
        const auto stored =
            static_cast<std::uint16_t>(std::to_integer<unsigned>(next[0]) | std::to_integer<unsigned>(next[1]) << 8);
        const float peak = peak_from(Type, stored);
        sound = sound && (count % 2 == 0 || std::to_integer<unsigned>(next[coded - 1]) < 16);
        if (peak == 0 || !std::isfinite(peak))
          sound = sound && !std::isinf(peak) && stored != 0x8000U &&
                  std::all_of(next + 2, next + coded, [](std::byte code) { return code == std::byte{0}; });
        detail::int4_decode_group<Type>(next + 2, count, peak * 0.125F, head + at * size_of(Type));
        next += coded;
      }
    if (!sound)
      return fail(ErrorCode::corrupt, "int4 rows hold a peak or a code that no encoder writes: recompute them");
    return {};
  }
};
static_assert(RowCodec<Int4Codec>);

}  // namespace krul
