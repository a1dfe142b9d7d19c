#include "krul/compress/any_codec.hpp"

#include <set>

#include "support/codec_checks.hpp"

using namespace krul;
using namespace krul::testing;

TEST_CASE("every codec is found by its id and its name, and keeps them") {
  const std::pair<int, std::string_view> expected[] = {{1, "exact"}, {2, "f16"}, {3, "bf16"}, {4, "int8"}, {5, "int4"}};
  for (const auto& [id, codec_name] : expected) {
    const auto by_id = row_codec_from_id(static_cast<std::byte>(id));
    const auto by_name = row_codec_from_name(codec_name);
    REQUIRE(by_id);
    REQUIRE(by_name);
    CHECK(by_id->name() == codec_name);
    CHECK(by_name->id() == static_cast<std::byte>(id));
  }
  CHECK(AnyRowCodec::all().size() == std::size(expected));
}

TEST_CASE("an unknown codec is unsupported, named, and the known ones are listed") {
  const auto by_id = row_codec_from_id(std::byte{77});
  REQUIRE(!by_id);
  CHECK(by_id.error().code == ErrorCode::unsupported);
  CHECK(by_id.error().message.find("77") != std::string::npos);
  CHECK(by_id.error().message.find("exact, f16, bf16, int8, int4") != std::string::npos);
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
