#pragma once

#include <cstddef>
#include <span>
#include <string_view>

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
  [[nodiscard]] std::size_t bytes(const Geometry& geometry, std::size_t rows) const noexcept;

  /// @throws PreconditionError if a span's length does not fit
  void encode(const Geometry& geometry, std::span<const std::byte> rows, std::span<std::byte> to) const;

  /// @return corrupt if no encoder can have written these bytes; then `rows` holds no meaning
  /// @throws PreconditionError if a span's length does not fit
  [[nodiscard]] Status decode(const Geometry& geometry, std::span<const std::byte> from,
                              std::span<std::byte> rows) const;

  /// A whole step of peak / 8, where a value near -peak finds -7/8 of it as its nearest code (half a step elsewhere);
  /// the rounding to the cache's type; one rounding of floats in the encoder. An f32 peak above the largest bf16 is
  /// held as that, up to 2^-8 below.
  [[nodiscard]] double relative_error(ElementType type) const noexcept {
    return 0.125 + unit_roundoff(type) + 0x1p-24 + (type == ElementType::f32 ? 0x1p-8 : 0);
  }
};
static_assert(RowCodec<Int4Codec>);

}  // namespace krul
