#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "krul/compress/row_codec.hpp"

namespace krul {

/// Rows rounded to two bytes a value, whatever the cache's type; a copy where the cache holds that type itself.
///
/// Rounding is to nearest even, so NaN and infinity stay what they are. The error bound holds within the range of both
/// types: magnitudes above it become infinite (for f16 from 65,520 on), and magnitudes below the smallest normal number
/// carry an absolute error of half the smallest subnormal.
template <ElementType Stored>
requires(Stored != ElementType::f32) class FloatCodec {
 public:
  [[nodiscard]] std::string_view name() const noexcept { return krul::name(Stored); }
  [[nodiscard]] std::size_t bytes(const Geometry& geometry, std::size_t rows) const noexcept {
    return rows * geometry.kv_values() * size_of(Stored);
  }

  /// @throws PreconditionError if a span's length does not fit
  void encode(const Geometry& geometry, std::span<const std::byte> rows, std::span<std::byte> to) const;

  /// Any bytes of the right length are values, so this never fails.
  /// @throws PreconditionError if a span's length does not fit
  [[nodiscard]] Status decode(const Geometry& geometry, std::span<const std::byte> from,
                              std::span<std::byte> rows) const;

  [[nodiscard]] double relative_error(ElementType type) const noexcept {
    return type == Stored ? 0 : unit_roundoff(Stored);
  }
};

using F16Codec = FloatCodec<ElementType::f16>;
using Bf16Codec = FloatCodec<ElementType::bf16>;
static_assert(RowCodec<F16Codec> && RowCodec<Bf16Codec>);

extern template class FloatCodec<ElementType::f16>;
extern template class FloatCodec<ElementType::bf16>;

}  // namespace krul
