#include "krul/compress/coding_set.hpp"
#include "krul/compress/any_codec.hpp"
#include "krul/compress/coding_numbers.hpp"
#include "krul/compress/direct_reuse.hpp"
#include "krul/compress/float_codec.hpp"
#include "krul/compress/int4_codec.hpp"
#include "krul/compress/layer_pair_compressor.hpp"
#include "krul/compress/packed.hpp"
#include "krul/compress/slerp_merge.hpp"

#include <set>

#include "support/codec_checks.hpp"

using namespace krul;
using namespace krul::testing;

namespace {

constexpr std::size_t few_tokens = 13;

/// One of krul's codings, and what its parts are.
struct KnownCoding {
  AnyChunkCoder coder;
  AnyRowCodec codec;
  bool merges = false;
};

std::vector<KnownCoding> all_codings() {
  std::vector<KnownCoding> all;
  for (const AnyRowCodec& codec : AnyRowCodec::all()) {
    all.push_back({LayerPairCompressor(Separate{}, codec), codec});
    all.push_back({LayerPairCompressor(SlerpMerge{}, codec), codec, true});
    all.push_back({LayerPairCompressor(DirectReuse{}, codec), codec});
    all.push_back({LayerPairCompressor(Packed{}, codec), codec});
  }
  return all;
}

/// A coder from outside: the rows with every bit turned over.
struct Inverted {
  [[nodiscard]] std::string name() const { return "acme.inverted." + std::to_string(version); }
  [[nodiscard]] std::size_t layers() const { return 1; }
  [[nodiscard]] std::size_t largest_bytes(const Geometry& geometry, std::size_t rows) const {
    return 2 * rows * geometry.kv_row_bytes();
  }
  [[nodiscard]] std::vector<std::byte> encode(const Geometry&, std::span<const KvRows> group,
                                              const BlockContext&) const {
    std::vector<std::byte> chunk;
    for (const auto rows : {group[0].keys, group[0].values})
      for (const std::byte each : rows) chunk.push_back(~each);
    return chunk;
  }
  Status decode(const Geometry&, std::span<const std::byte> chunk, std::span<const MutableKvRows> group,
                const BlockContext&) const {
    if (chunk.size() != 2 * group[0].keys.size()) return fail(ErrorCode::corrupt, "another length");
    for (std::size_t i = 0; i < chunk.size(); ++i)
      (i < group[0].keys.size() ? group[0].keys[i] : group[0].values[i - group[0].keys.size()]) = ~chunk[i];
    return {};
  }
  int version = 1;
};
static_assert(ChunkCoder<Inverted>);

}  // namespace

TEST_CASE("a coding of krul's is one byte: the sharing above, the row codec below") {
  CHECK(krul_coding_number(AnyChunkCoder().name()) == 0x01);
  CHECK(krul_coding_number(LayerPairCompressor(SlerpMerge{}, F16Codec{}).name()) == 0x12);
  CHECK(krul_coding_number(LayerPairCompressor(DirectReuse{}, Int4Codec{}).name()) == 0x25);
  std::set<std::uint8_t> numbers;
  for (const auto& [coder, codec, merges] : all_codings()) {
    const std::string name = coder.name();
    CAPTURE(name);
    const auto number = krul_coding_number(coder.name());
    REQUIRE(number);
    numbers.insert(*number);
    const auto found = CodingSet().find({*number});
    REQUIRE(found);
    CHECK(found->name() == coder.name());
    CHECK(found->layers() == coder.layers());
  }
  CHECK(numbers.size() == all_codings().size());
}

TEST_CASE("every number below 128 that krul gives is a coding's, and no other") {
  for (unsigned number = 0; number < first_foreign_coding; ++number) {
    CAPTURE(number);
    const auto found = CodingSet().find({static_cast<std::uint8_t>(number)});
    if (found) CHECK(krul_coding_number(found->name()) == number);
    if (!found) CHECK(found.error().code == (number == joint_coding ? ErrorCode::not_found : ErrorCode::unsupported));
    if (number == joint_coding) CHECK(found.error().message.find("ConversationOptions::codings") != std::string::npos);
  }
  for (const unsigned number : {0x00U, 0x0fU, 0x10U, 0x31U, 0x4fU, 0x71U})
    CHECK_FALSE(CodingSet().find({static_cast<std::uint8_t>(number)}));
}

TEST_CASE("a coder from outside is found by its name and version, and by nothing else") {
  const std::vector<std::string> names = {"acme.other.1", "acme.inverted.2"};
  const StoredCoding stored{.number = 129, .names = names};
  const auto found = CodingSet(nullptr, {Inverted{1}, Inverted{2}}).find(stored);
  REQUIRE(found);
  CHECK(found->name() == "acme.inverted.2");
  for (const CodingSet& without : {CodingSet(), CodingSet(nullptr, {Inverted{1}})}) {
    const auto missing = without.find(stored);
    REQUIRE_FALSE(missing);
    CHECK(missing.error().code == ErrorCode::not_found);
    CHECK(missing.error().message.find("\"acme.inverted.2\"") != std::string::npos);
    CHECK(missing.error().message.find("ConversationOptions::codings") != std::string::npos);
  }
  const auto unnamed = CodingSet(nullptr, {Inverted{2}}).find({.number = 130, .names = names});
  REQUIRE_FALSE(unnamed);
  CHECK(unnamed.error().code == ErrorCode::corrupt);
}

TEST_CASE("a coder that was chosen at run time does what the coder does") {
  const Geometry geometry = kv_geometry(ElementType::f16);
  const auto rows = kv_rows(kv_families[0], geometry, few_tokens, 3);
  const std::vector<KvRows> group = {{rows, rows}};
  CodingSet set;
  set.add(Inverted{});
  const std::vector<std::string> names = {Inverted{}.name()};
  const AnyChunkCoder any = set.find({.number = 128, .names = names}).value();
  const auto chunk = any.encode(geometry, group);
  CHECK(chunk == Inverted{}.encode(geometry, group, {}));
  CHECK(any.largest_bytes(geometry, few_tokens) == chunk.size());
  std::vector<std::byte> keys(rows.size()), values(rows.size());
  const std::vector<MutableKvRows> to = {{keys, values}};
  REQUIRE(any.decode(geometry, chunk, to));
  CHECK(keys == rows);
  CHECK(values == rows);
  CHECK(any.decode(geometry, std::span(chunk).first(1), to).error().code == ErrorCode::corrupt);
}

TEST_CASE("where both layers are equal, every coding gives both back within the row codec's error") {
  for (const ElementType type : all_types)
    for (const auto& [coding, codec, merges] : all_codings())
      for (const auto& family : kv_families) {
        if (family.name == "subnormal" || family.name == "huge") continue;  // beyond what every codec can hold
        const std::string coding_name = coding.name();
        CAPTURE(coding_name);
        CAPTURE(name(type));
        CAPTURE(family.name);
        const Geometry geometry = kv_geometry(type, 2, 37);
        const auto rows = kv_rows(family, geometry, few_tokens, 41);
        const std::vector<KvRows> group(coding.layers(), KvRows{rows, rows});
        const auto chunk = coding.encode(geometry, group);
        REQUIRE(chunk.size() <= coding.largest_bytes(geometry, few_tokens));

        std::vector<std::vector<std::byte>> back(2 * coding.layers(), std::vector<std::byte>(rows.size()));
        std::vector<MutableKvRows> to;
        for (std::size_t layer = 0; layer < coding.layers(); ++layer)
          to.push_back({back[2 * layer], back[2 * layer + 1]});
        const auto reader = CodingSet().find({krul_coding_number(coding.name()).value()});
        REQUIRE(reader);
        REQUIRE(reader->decode(geometry, chunk, to));

        // Merging equal rows adds to the codec's error: the rounding of the direction and of the product, an f16 as
        // length, and the codec's own error once more in that length; all relative to the row, so to its largest value
        // times the root of its width.
        const double unit = unit_roundoff(type), coded = codec.relative_error(type);
        const auto before = to_doubles(type, rows);
        for (const auto& tensor : back) {
          const auto after = to_doubles(type, tensor);
          for (std::size_t row = 0; row < before.size(); row += geometry.kv_values()) {
            double peak = 0, error = 0;
            for (std::size_t i = row; i < row + geometry.kv_values(); ++i) {
              peak = std::max(peak, std::abs(before[i]));
              error = std::max(error, std::abs(after[i] - before[i]));
            }
            const double relative = merges ? coded * (2 + coded) + 3 * unit + 0x1p-11 + 0x1p-18 : coded;
            const double root = merges ? std::sqrt(static_cast<double>(geometry.kv_values())) : 1;
            REQUIRE(error <= relative * peak * root + 2 * smallest_normal(type) * unit);
          }
        }
      }
}
