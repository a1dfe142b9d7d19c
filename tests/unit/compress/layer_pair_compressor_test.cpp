#include "krul/compress/layer_pair_compressor.hpp"
#include "krul/compress/exact_codec.hpp"
#include "krul/compress/int8_codec.hpp"

#include <string>

#include "krul/compress/any_codec.hpp"
#include "support/codec_checks.hpp"

using namespace krul;
using namespace krul::testing;

TEST_CASE("a chunk is the coded K rows, then the coded V rows, and comes back") {
  for (const AnyRowCodec& codec : AnyRowCodec::all()) {
    CAPTURE(codec.name());
    const Geometry geometry = kv_geometry(ElementType::f16);
    const LayerPairCompressor compressor(Separate{}, codec);
    const auto keys = kv_rows(kv_families[0], geometry, 11, 8), values = kv_rows(kv_families[1], geometry, 11, 9);
    auto expected = encoded(codec, geometry, keys);
    const auto coded_values = encoded(codec, geometry, values);
    expected.insert(expected.end(), coded_values.begin(), coded_values.end());

    const auto chunk = compressor.encode(geometry, KvRows{keys, values});
    CHECK(chunk == expected);
    CHECK(chunk.size() == compressor.largest_bytes(geometry, 11));

    std::vector<std::byte> keys_back(keys.size()), values_back(values.size());
    REQUIRE(compressor.decode(geometry, chunk, MutableKvRows{keys_back, values_back}));
    CHECK(keys_back == decoded(codec, geometry, encoded(codec, geometry, keys), 11));
    CHECK(values_back == decoded(codec, geometry, coded_values, 11));
  }
}

TEST_CASE("a chunk of another length is corrupt, and so is one that the codec refuses") {
  const Geometry geometry = kv_geometry(ElementType::f16);
  const LayerPairCompressor compressor(Separate{}, Int8Codec{});
  std::vector<std::byte> keys(4 * geometry.kv_row_bytes()), values(keys.size());
  const auto chunk = compressor.encode(geometry, KvRows{keys, values});
  const MutableKvRows rows{keys, values};

  const Status shorter = compressor.decode(geometry, std::span(chunk).first(chunk.size() - 1), rows);
  REQUIRE(!shorter);
  CHECK(shorter.error().code == ErrorCode::corrupt);
  CHECK(shorter.error().message.find(std::to_string(chunk.size())) != std::string::npos);
  for (const std::size_t broken : {std::size_t{2}, chunk.size() - 1}) {  // a code of K, a code of V
    auto damaged = chunk;
    damaged[broken] = std::byte{0x80};
    const Status status = compressor.decode(geometry, damaged, rows);
    REQUIRE(!status);
    CHECK(status.error().code == ErrorCode::corrupt);
  }
}

TEST_CASE("rows that do not fit together are the caller's mistake") {
  const Geometry geometry = kv_geometry(ElementType::f16);
  const LayerPairCompressor compressor(Separate{}, ExactCodec{});
  std::vector<std::byte> two(2 * geometry.kv_row_bytes()), three(3 * geometry.kv_row_bytes());
  const auto chunk = compressor.encode(geometry, KvRows{two, two});
  CHECK_THROWS_AS(static_cast<void>(compressor.encode(geometry, KvRows{two, three})), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(compressor.encode(geometry, std::span<const KvRows>{})), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(compressor.encode(Geometry{}, KvRows{two, two})), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(compressor.decode(geometry, chunk, MutableKvRows{two, three})), PreconditionError);
}
