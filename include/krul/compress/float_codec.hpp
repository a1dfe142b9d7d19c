#pragma once

#include <algorithm>
#include <array>
#include <cstring>

#include "krul/compress/row_codec.hpp"
#include "krul/core/half.hpp"

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
  void encode(const Geometry& geometry, std::span<const std::byte> rows, std::span<std::byte> to) const {
    const std::size_t row = geometry.kv_row_bytes();
    expects(row > 0 && rows.size() % row == 0 && to.size() == bytes(geometry, rows.size() / row),
            "FloatCodec: encode needs whole rows and room for exactly their coded bytes");
    convert(geometry.cache_type, rows, Stored, to);
  }

  /// Any bytes of the right length are values, so this never fails.
  /// @throws PreconditionError if a span's length does not fit
  [[nodiscard]] Status decode(const Geometry& geometry, std::span<const std::byte> from,
                              std::span<std::byte> rows) const {
    const std::size_t row = geometry.kv_row_bytes();
    expects(row > 0 && rows.size() % row == 0 && from.size() == bytes(geometry, rows.size() / row),
            "FloatCodec: decode needs whole rows and exactly their coded bytes");
    convert(Stored, from, geometry.cache_type, rows);
    return {};
  }

  [[nodiscard]] double relative_error(ElementType type) const noexcept {
    return type == Stored ? 0 : unit_roundoff(Stored);
  }

 private:
  static void convert(ElementType from_type, std::span<const std::byte> from, ElementType to_type,
                      std::span<std::byte> to) {
    if (from_type == to_type) {
      if (!from.empty()) std::memcpy(to.data(), from.data(), from.size());
      return;
    }
    std::array<float, 512> values;  // small enough to stay in the first-level cache
    const std::size_t count = from.size() / size_of(from_type);
    for (std::size_t i = 0; i < count; i += values.size()) {
      const std::span<float> part(values.data(), std::min(values.size(), count - i));
      to_float(from_type, from.subspan(i * size_of(from_type), part.size() * size_of(from_type)), part);
      from_float(to_type, part, to.subspan(i * size_of(to_type), part.size() * size_of(to_type)));
    }
  }
};

using F16Codec = FloatCodec<ElementType::f16>;
using Bf16Codec = FloatCodec<ElementType::bf16>;
static_assert(RowCodec<F16Codec> && RowCodec<Bf16Codec>);

}  // namespace krul
