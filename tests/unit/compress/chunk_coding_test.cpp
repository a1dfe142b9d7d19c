#include "krul/compress/chunk_coding.hpp"

#include <set>

#include "support/codec_checks.hpp"

using namespace krul;
using namespace krul::testing;

namespace {

constexpr std::size_t few_tokens = 13;

std::vector<ChunkCoding> all_codings() {
  std::vector<ChunkCoding> codings;
  for (const AnyRowCodec& codec : AnyRowCodec::all())
    for (const auto& sharing :
         {ChunkCoding::Sharing(Separate{}), ChunkCoding::Sharing(SlerpMerge{}), ChunkCoding::Sharing(DirectReuse{})})
      codings.emplace_back(sharing, codec);
  return codings;
}

}  // namespace

TEST_CASE("a coding is one byte: the sharing above, the row codec below") {
  CHECK(ChunkCoding().id() == 0x01);
  CHECK(ChunkCoding(SlerpMerge{}, F16Codec{}).id() == 0x12);
  CHECK(ChunkCoding(DirectReuse{}, Int4Codec{}).id() == 0x25);
  std::set<std::uint8_t> ids;
  for (const auto& coding : all_codings()) {
    ids.insert(coding.id());
    const auto found = ChunkCoding::from_id(coding.id());
    REQUIRE(found);
    CHECK(found->id() == coding.id());
    CHECK(found->layers() == coding.layers());
    CHECK(found->codec().name() == coding.codec().name());
  }
  CHECK(ids.size() == all_codings().size());
}

TEST_CASE("a coding that this build does not know is unsupported") {
  for (const unsigned id : {0x00U, 0x0fU, 0x10U, 0x31U, 0xf1U}) {
    const auto found = ChunkCoding::from_id(static_cast<std::uint8_t>(id));
    REQUIRE(!found);
    CHECK(found.error().code == ErrorCode::unsupported);
  }
}

TEST_CASE("where both layers are equal, every coding gives both back within the row codec's error") {
  for (const ElementType type : all_types)
    for (const auto& coding : all_codings())
      for (const auto& family : kv_families) {
        if (family.name == "subnormal" || family.name == "huge") continue;  // beyond what every codec can hold
        CAPTURE(static_cast<unsigned>(coding.id()));
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
        const auto reader = ChunkCoding::from_id(coding.id());
        REQUIRE(reader);
        REQUIRE(reader->decode(geometry, chunk, to));

        // Merging equal rows adds to the codec's error: the rounding of the direction and of the product, an f16 as
        // length, and the codec's own error once more in that length; all relative to the row, so to its largest value
        // times the root of its width.
        const double unit = unit_roundoff(type), coded = coding.codec().relative_error(type);
        const bool merges = coding.id() >> 4 == 1;
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
