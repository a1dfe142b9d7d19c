#include "krul/compress/direct_reuse.hpp"

#include "krul/compress/any_codec.hpp"
#include "krul/compress/int8_codec.hpp"
#include "krul/compress/layer_pair_compressor.hpp"
#include "support/codec_checks.hpp"

using namespace krul;
using namespace krul::testing;

namespace {

using Bytes = std::vector<std::byte>;
using Kept = DirectReuse::Kept;

struct Group {
  Bytes keys[2], values[2];
  [[nodiscard]] std::vector<KvRows> read() const { return {{keys[0], values[0]}, {keys[1], values[1]}}; }
  [[nodiscard]] std::vector<MutableKvRows> write() { return {{keys[0], values[0]}, {keys[1], values[1]}}; }
};

Group some_group(const Geometry& geometry, std::size_t tokens) {
  Group group;
  for (std::size_t layer = 0; layer < 2; ++layer) {
    group.keys[layer] = kv_rows(kv_families[0], geometry, tokens, 31 + layer);
    group.values[layer] = kv_rows(kv_families[1], geometry, tokens, 33 + layer);
  }
  return group;
}

}  // namespace

TEST_CASE("the kept layer comes back as both, and a tensor that is not shared as itself") {
  for (const ElementType type : all_types)
    for (const AnyRowCodec& codec : AnyRowCodec::all())
      for (const Kept kept : {Kept::shallower, Kept::deeper})
        for (const unsigned shared : {1U, 2U, 3U}) {
          CAPTURE(codec.name());
          const Geometry geometry = kv_geometry(type);
          const LayerPairCompressor compressor(DirectReuse({kept, (shared & 1U) != 0, (shared & 2U) != 0}), codec);
          const Group group = some_group(geometry, 7);
          const auto chunk = compressor.encode(geometry, group.read());
          CHECK(chunk.size() == 1 + (shared == 3 ? 2 : 3) * codec.bytes(geometry, 7));
          CHECK(chunk.size() <= compressor.largest_bytes(geometry, 7));

          Group back = some_group(geometry, 7);
          // What reads it knows nothing of the settings.
          REQUIRE(LayerPairCompressor(DirectReuse{}, codec).decode(geometry, chunk, back.write()));
          for (std::size_t layer = 0; layer < 2; ++layer) {
            const auto source = [&](unsigned tensor) {
              return (shared & tensor) != 0 ? static_cast<std::size_t>(kept) : layer;
            };
            const auto coded = [&](const Bytes& rows) {
              return decoded(codec, geometry, encoded(codec, geometry, rows), 7);
            };
            CHECK(back.keys[layer] == coded(group.keys[source(1)]));
            CHECK(back.values[layer] == coded(group.values[source(2)]));
          }
          if (shared == 3) CHECK(compressor.encode(geometry, back.read()) == chunk);  // no drift
        }
}

TEST_CASE("a chunk of a reused layer that no encoder writes is corrupt") {
  const Geometry geometry = kv_geometry(ElementType::f16, 1, 4);
  const LayerPairCompressor compressor(DirectReuse({Kept::shallower, true, false}), AnyRowCodec(Int8Codec{}));
  Group group = some_group(geometry, 3);
  const auto good = compressor.encode(geometry, group.read());
  const auto refused = [&](const Bytes& chunk) {
    const Status status = compressor.decode(geometry, chunk, group.write());
    return !status && status.error().code == ErrorCode::corrupt;
  };
  for (std::size_t length = 0; length < good.size(); ++length)
    CHECK(refused(Bytes(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(length))));
  for (const unsigned flags : {0U, 3U, 4U, 5U, 0x81U}) {
    auto chunk = good;
    chunk[0] = static_cast<std::byte>(flags);
    CHECK(refused(chunk));
  }
  auto longer = good;
  longer.push_back(std::byte{0});
  CHECK(refused(longer));
  for (const std::size_t code : {3U, 21U, 39U}) {  // of K, of V of either layer
    auto chunk = good;
    chunk[code] = std::byte{0x80};
    CHECK(refused(chunk));
  }
}

TEST_CASE("sharing nothing is the caller's mistake") {
  CHECK_THROWS_AS(DirectReuse({Kept::shallower, false, false}), PreconditionError);
}
