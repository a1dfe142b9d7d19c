#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "krul/compress/row_codec.hpp"
#include "support/kv_samples.hpp"

namespace krul::testing {

/// What a peak below the smallest normal number may add: see Int8Codec.
inline double subnormal_error(ElementType type) {
  return type == ElementType::f32 ? smallest_normal(type) : smallest_subnormal(type) / 2;
}

/// Calls check(geometry, rows) for `tokens` rows of every type, head size and family of values.
template <class Check>
void for_all_rows(std::span<const std::size_t> head_dims, std::size_t tokens, Check&& check) {
  for (const ElementType type : all_types)
    for (const std::size_t head_dim : head_dims)
      for (const auto& family : kv_families) {
        CAPTURE(name(type));
        CAPTURE(head_dim);
        CAPTURE(family.name);
        const Geometry geometry = kv_geometry(type, 3, head_dim);
        check(geometry, kv_rows(family, geometry, tokens, 5 + head_dim));
      }
}

template <RowCodec Codec>
std::vector<std::byte> encoded(const Codec& codec, const Geometry& geometry, const std::vector<std::byte>& rows) {
  std::vector<std::byte> bytes(codec.bytes(geometry, rows.size() / geometry.kv_row_bytes()));
  codec.encode(geometry, rows, bytes);
  return bytes;
}

template <RowCodec Codec>
std::vector<std::byte> decoded(const Codec& codec, const Geometry& geometry, const std::vector<std::byte>& bytes,
                               std::size_t rows) {
  std::vector<std::byte> out(rows * geometry.kv_row_bytes(), std::byte{0x5a});
  REQUIRE(codec.decode(geometry, bytes, out));
  return out;
}

/// The codec's stated error, relative to each head's peak, plus `absolute`.
template <RowCodec Codec>
void check_error_bound(const Codec& codec, const Geometry& geometry, const std::vector<std::byte>& rows,
                       double absolute) {
  const ElementType type = geometry.cache_type;
  const auto before = to_doubles(type, rows);
  const auto after =
      to_doubles(type, decoded(codec, geometry, encoded(codec, geometry, rows), rows.size() / geometry.kv_row_bytes()));
  for (std::size_t head = 0; head < before.size(); head += geometry.head_dim) {
    double peak = 0, error = 0;
    for (std::size_t i = head; i < head + geometry.head_dim; ++i) {
      peak = std::max(peak, std::abs(before[i]));
      error = std::max(error, std::abs(after[i] - before[i]));
    }
    REQUIRE(error <= codec.relative_error(type) * peak + absolute);
  }
}

/// What every codec owes: linear lengths, and PreconditionErrors for lengths that do not fit.
template <RowCodec Codec>
void check_lengths(const Codec& codec) {
  for (const ElementType type : all_types) {
    const Geometry geometry = kv_geometry(type);
    CHECK(codec.bytes(geometry, 0) == 0);
    CHECK(codec.bytes(geometry, 7) == 7 * codec.bytes(geometry, 1));
    std::vector<std::byte> none, rows(2 * geometry.kv_row_bytes()), bytes(codec.bytes(geometry, 2));
    CHECK_NOTHROW(codec.encode(geometry, none, none));
    CHECK(codec.decode(geometry, none, none));
    const std::span<std::byte> short_rows = std::span(rows).first(rows.size() - 1);
    const std::span<std::byte> short_bytes = std::span(bytes).first(bytes.size() - 1);
    CHECK_THROWS_AS(codec.encode(geometry, short_rows, bytes), PreconditionError);
    CHECK_THROWS_AS(codec.encode(geometry, rows, short_bytes), PreconditionError);
    CHECK_THROWS_AS(static_cast<void>(codec.decode(geometry, short_bytes, rows)), PreconditionError);
    CHECK_THROWS_AS(static_cast<void>(codec.decode(geometry, bytes, short_rows)), PreconditionError);
    CHECK_THROWS_AS(codec.encode(Geometry{}, none, none), PreconditionError);
    CHECK_THROWS_AS(static_cast<void>(codec.decode(Geometry{}, none, none)), PreconditionError);
  }
}

}  // namespace krul::testing
