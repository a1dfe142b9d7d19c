#include "krul/compress/float_codec.hpp"

#include <limits>

#include "krul/reference/row_codec.hpp"
#include "support/codec_checks.hpp"

using namespace krul;
using namespace krul::testing;

namespace {

/// Families that stay within the range of f16, whatever the cache holds.
bool within_f16(const KvFamily& family, ElementType cache) {
  return family.name != "huge" || cache == ElementType::f16;
}

}  // namespace

TEST_CASE_TEMPLATE("a float codec agrees with its twin", Codec, F16Codec, Bf16Codec) {
  const ElementType stored = std::is_same_v<Codec, F16Codec> ? ElementType::f16 : ElementType::bf16;
  for (const ElementType type : all_types) {
    const Geometry geometry = kv_geometry(type, 2, 24);
    for (const auto& family : kv_families) {
      CAPTURE(family.name);
      const auto rows = kv_rows(family, geometry, 30, 2);
      const auto values = to_doubles(type, rows);
      const auto back = decoded(Codec{}, geometry, encoded(Codec{}, geometry, rows), 30);
      CHECK(to_doubles(type, back) == reference::store_as(stored, type, values));
    }
  }
}

TEST_CASE_TEMPLATE("a float codec keeps its error bound", Codec, F16Codec, Bf16Codec) {
  const ElementType stored = std::is_same_v<Codec, F16Codec> ? ElementType::f16 : ElementType::bf16;
  for (const ElementType type : all_types) {
    for (const auto& family : kv_families) {
      CAPTURE(family.name);
      if (!within_f16(family, type)) continue;
      // bf16 rounds the largest values of f16 up beyond f16's range.
      if (family.name == "huge" && stored != type) continue;
      const Geometry geometry = kv_geometry(type);
      // Below the smallest normal number rounding costs half a subnormal, once when storing and once when loading.
      const double absolute = type == stored ? 0 : (smallest_subnormal(stored) + smallest_subnormal(type)) / 2;
      check_error_bound(Codec{}, geometry, kv_rows(family, geometry, 50, 3), absolute);
    }
  }
}

TEST_CASE_TEMPLATE("a cache of the stored type keeps every bit", Codec, F16Codec, Bf16Codec) {
  const Geometry geometry = kv_geometry(std::is_same_v<Codec, F16Codec> ? ElementType::f16 : ElementType::bf16);
  const auto rows = any_bytes(20 * geometry.kv_row_bytes(), 4);
  CHECK(encoded(Codec{}, geometry, rows) == rows);
  CHECK(decoded(Codec{}, geometry, rows, 20) == rows);
  CHECK(Codec{}.relative_error(geometry.cache_type) == 0);
}

TEST_CASE_TEMPLATE("what is not finite stays so, and what is too large becomes infinite", Codec, F16Codec, Bf16Codec) {
  const Geometry geometry = kv_geometry(ElementType::f32, 1, 4);
  const double infinity = std::numeric_limits<double>::infinity();
  const auto rows = to_bytes(ElementType::f32, {infinity, -infinity, std::nan(""), 3.4e38});
  const auto back = to_doubles(ElementType::f32, decoded(Codec{}, geometry, encoded(Codec{}, geometry, rows), 1));
  CHECK(back[0] == infinity);
  CHECK(back[1] == -infinity);
  CHECK(std::isnan(back[2]));
  CHECK(back[3] == infinity);
}

TEST_CASE_TEMPLATE("a float codec checks lengths", Codec, F16Codec, Bf16Codec) {
  check_lengths(Codec{});
}
