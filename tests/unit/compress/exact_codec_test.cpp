#include "krul/compress/exact_codec.hpp"

#include "support/codec_checks.hpp"

using namespace krul;
using namespace krul::testing;

TEST_CASE("the exact codec keeps every bit, NaN payloads included") {
  for (const ElementType type : all_types) {
    const Geometry geometry = kv_geometry(type);
    const auto rows = any_bytes(40 * geometry.kv_row_bytes(), 1);
    const auto bytes = encoded(ExactCodec{}, geometry, rows);
    CHECK(decoded(ExactCodec{}, geometry, bytes, 40) == rows);
    CHECK(ExactCodec{}.relative_error(type) == 0);
  }
}

TEST_CASE("the exact codec checks lengths") {
  check_lengths(ExactCodec{});
}
