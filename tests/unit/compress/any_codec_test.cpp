#include "krul/compress/any_codec.hpp"
#include "krul/compress/exact_codec.hpp"
#include "krul/compress/float_codec.hpp"
#include "krul/compress/int4_codec.hpp"
#include "krul/compress/int8_codec.hpp"

#include <set>

#include "support/codec_checks.hpp"

using namespace krul;
using namespace krul::testing;

TEST_CASE("every codec is found by its number and its name, and keeps them") {
  const std::pair<unsigned, std::string_view> expected[] = {
      {1, "exact"}, {2, "f16"}, {3, "bf16"}, {4, "int8"}, {5, "int4"}};
  for (const auto& [number, codec_name] : expected) {
    const auto by_number = row_codec_from_number(number);
    const auto by_name = row_codec_from_name(codec_name);
    REQUIRE(by_number);
    REQUIRE(by_name);
    CHECK(by_number->name() == codec_name);
  }
  CHECK(AnyRowCodec::all().size() == std::size(expected));
}

TEST_CASE("an unknown codec is unsupported, named, and the known ones are listed") {
  const auto by_number = row_codec_from_number(77);
  REQUIRE(!by_number);
  CHECK(by_number.error().code == ErrorCode::unsupported);
  CHECK(by_number.error().message.find("77") != std::string::npos);
  CHECK(by_number.error().message.find("exact, f16, bf16, int8, int4") != std::string::npos);
  const auto by_name = row_codec_from_name("zip");
  REQUIRE(!by_name);
  CHECK(by_name.error().code == ErrorCode::unsupported);
  CHECK(by_name.error().message.find("'zip'") != std::string::npos);
  CHECK(by_name.error().message.find("exact, f16, bf16, int8, int4") != std::string::npos);
}

TEST_CASE_TEMPLATE("a codec chosen at run time does what the codec itself does", Codec, ExactCodec, F16Codec, Bf16Codec,
                   Int8Codec, Int4Codec) {
  const AnyRowCodec any = Codec{};
  for (const ElementType type : all_types) {
    const Geometry geometry = kv_geometry(type);
    const auto rows = kv_rows(kv_families[0], geometry, 9, 7);
    const auto bytes = encoded(Codec{}, geometry, rows);
    CHECK(encoded(any, geometry, rows) == bytes);
    CHECK(decoded(any, geometry, bytes, 9) == decoded(Codec{}, geometry, bytes, 9));
    CHECK(any.relative_error(type) == Codec{}.relative_error(type));
  }
  check_lengths(any);
}

TEST_CASE("the cache's own bytes are the codec when none is chosen") {
  CHECK(AnyRowCodec{}.name() == "exact");
}
