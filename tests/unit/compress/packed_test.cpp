#include "krul/compress/packed.hpp"
#include "krul/compress/any_codec.hpp"
#include "krul/compress/coding_numbers.hpp"
#include "krul/compress/exact_codec.hpp"
#include "krul/compress/layer_pair_compressor.hpp"

#include <random>

#include "krul/compress/coding_set.hpp"
#include "support/codec_checks.hpp"

using namespace krul;
using namespace krul::testing;

namespace {

using Bytes = std::vector<std::byte>;

}  // namespace

TEST_CASE("packed rows are those of the codec alone, for every codec and type") {
  std::mt19937_64 random(1);
  for (const auto type : {ElementType::f32, ElementType::f16, ElementType::bf16})
    for (const AnyRowCodec& codec : AnyRowCodec::all())
      for (const std::size_t rows : {1U, 5U, 64U}) {
        const Geometry geometry = kv_geometry(type, 2, 32);
        const Bytes keys = kv_rows(kv_families[0], geometry, rows, random()),
                    values = kv_rows(kv_families[1], geometry, rows, random());
        const KvRows group[] = {{keys, values}};
        const AnyChunkCoder packed = LayerPairCompressor(Packed{}, codec),
                            plain = LayerPairCompressor(Separate{}, codec);
        const auto chunk = packed.encode(geometry, group);
        CHECK(chunk.size() <= packed.largest_bytes(geometry, rows));
        Bytes back[4];
        for (Bytes& each : back) each.resize(keys.size());
        const MutableKvRows to[] = {{back[0], back[1]}}, expected[] = {{back[2], back[3]}};
        const auto found = CodingSet().find({krul_coding_number(packed.name()).value()});
        REQUIRE(found);
        REQUIRE(found->decode(geometry, chunk, to));
        REQUIRE(plain.decode(geometry, plain.encode(geometry, group), expected));
        CHECK(back[0] == back[2]);
        CHECK(back[1] == back[3]);
      }
}

TEST_CASE("rows that look alike take less room") {
  const Geometry geometry = kv_geometry(ElementType::f16);
  const Bytes rows = kv_rows(kv_families[0], geometry, 64, 3);
  const KvRows group[] = {{rows, rows}};
  CHECK(LayerPairCompressor(Packed{}, ExactCodec{}).encode(geometry, group).size() <
        0.9 * 2 * static_cast<double>(rows.size()));
}

TEST_CASE("damaged packed chunks are refused or decode to something, and nothing else happens") {
  const Geometry geometry = kv_geometry(ElementType::f16, 1, 16);
  Bytes keys = kv_rows(kv_families[0], geometry, 20, 3), values = keys;
  const KvRows group[] = {{keys, values}};
  const LayerPairCompressor coding(Packed{}, ExactCodec{});
  const auto chunk = coding.encode(geometry, group);
  const MutableKvRows to[] = {{keys, values}};
  for (std::size_t length = 0; length < chunk.size(); ++length)
    CHECK_FALSE(coding.decode(geometry, std::span(chunk).first(length), to));
  auto longer = chunk;
  longer.push_back(std::byte{0});
  CHECK(coding.decode(geometry, longer, to).error().code == ErrorCode::corrupt);
  std::mt19937_64 random(9);
  for (int i = 0; i < 3000; ++i) {
    auto changed = chunk;
    for (std::size_t n = 0; n < 1 + random() % 3; ++n)
      changed[random() % changed.size()] = static_cast<std::byte>(random());
    static_cast<void>(coding.decode(geometry, changed, to));
  }
}
