#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "krul/compress/row_codec.hpp"

namespace krul {

/// One byte a value and two bytes a token and head: 1 + 2/D bytes a value.
///
/// A head is stored as [2 + D] bytes: its peak, the largest magnitude, little-endian; then D codes of
/// round(127 * value / peak), to nearest even, within [-127, 127], so that no value clips. The peak is held as the
/// cache's own type where that has two bytes (exact), and of an f32 as the 16 bits below the sign, rounded up.
///
/// @post encoding a decoded head gives the same bytes: there is no drift however often rows are coded
///
/// A head with a NaN or an infinity in it is stored with a NaN as its peak and comes back as D NaNs: damage stays
/// visible instead of turning into numbers. A head of an f32 cache whose peak is subnormal (below 2^-126) is stored as
/// zeros. Where the peak of a two-byte type is subnormal, half the smallest subnormal adds to the error bound.
class Int8Codec {
 public:
  [[nodiscard]] std::string_view name() const noexcept { return "int8"; }
  [[nodiscard]] std::size_t bytes(const Geometry& geometry, std::size_t rows) const noexcept {
    return rows * geometry.kv_heads * (2 + geometry.head_dim);
  }

  /// @throws PreconditionError if a span's length does not fit
  void encode(const Geometry& geometry, std::span<const std::byte> rows, std::span<std::byte> to) const;

  /// @return corrupt if no encoder can have written these bytes; then `rows` holds no meaning
  /// @throws PreconditionError if a span's length does not fit
  [[nodiscard]] Status decode(const Geometry& geometry, std::span<const std::byte> from,
                              std::span<std::byte> rows) const;

  /// Half a step of peak / 127, and the rounding to the cache's type; an f32 peak is up to 2^-8 above the true one. The
  /// last term covers the float arithmetic: three roundings.
  [[nodiscard]] double relative_error(ElementType type) const noexcept {
    const double peak = type == ElementType::f32 ? 1 + 0x1p-8 : 1;
    return peak * (0.5 / 127 + unit_roundoff(type) + 3 * 0x1p-24);
  }
};
static_assert(RowCodec<Int8Codec>);

}  // namespace krul
