#include <doctest/doctest.h>

#include <krul/core/geometry.hpp>

TEST_CASE("sizes of rows follow from heads and element type") {
  krul::Geometry geometry{.layers = 30, .query_heads = 9, .kv_heads = 3, .head_dim = 64};
  CHECK(geometry.kv_values() == 192);
  CHECK(geometry.kv_row_bytes() == 384);
  CHECK(geometry.f16_token_bytes() == 23040);
  geometry.cache_type = krul::ElementType::f32;
  CHECK(geometry.kv_row_bytes() == 768);
  CHECK(geometry.f16_token_bytes() == 23040);
}

TEST_CASE("geometries are equal if every field is") {
  const krul::Geometry geometry{.layers = 2, .rotary = {.dimensions = 8}};
  auto other = geometry;
  CHECK(geometry == other);
  other.rotary.base = 5;
  CHECK_FALSE(geometry == other);
}
