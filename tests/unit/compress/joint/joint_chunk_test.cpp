#include "krul/compress/joint/joint_chunk.hpp"
#include "krul/compress/joint_transform.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>

#include "support/profile_samples.hpp"

using namespace krul;
using namespace krul::testing;

namespace {

/// Rows of the first group, coded.
struct CodedChunk {
  Geometry geometry = profile_geometry(ElementType::f16);
  std::shared_ptr<const Profile> profile = Profile::create(random_profile(geometry, {1, 3}, 8, 0, 3), geometry).value();
  std::vector<std::byte> keys, values, bytes;

  CodedChunk(std::size_t tokens, Position first, std::span<const std::uint8_t> classes) {
    std::mt19937_64 random(4);
    std::normal_distribution<float> normal;
    std::vector<float> rows(tokens * geometry.kv_values());
    for (auto* to : {&keys, &values}) {
      for (float& value : rows) value = normal(random);
      to->resize(tokens * geometry.kv_row_bytes());
      from_float(geometry.cache_type, rows, *to);
    }
    const KvRows group{keys, values};
    bytes = JointTransform(profile, 0, StepScale{-10}).encode(geometry, {&group, 1}, {first, {}, classes});
  }
  [[nodiscard]] Result<JointChunk> read(TokenRange rows) const {
    return JointChunk::read(*profile, 0, geometry, bytes, rows);
  }
};

}  // namespace

TEST_CASE("a chunk that is read names each of its rows once, in runs that share columns and tables") {
  std::vector<std::uint8_t> classes(70);
  for (std::size_t i = 0; i < classes.size(); ++i) classes[i] = static_cast<std::uint8_t>(5 + i % 7);
  for (const std::size_t first : {0U, 64U}) {
    const CodedChunk coded(70, static_cast<Position>(first), classes);
    const auto chunk = coded.read({first, first + 70});
    REQUIRE(chunk);
    CHECK(chunk->has_first_row == (first == 0));
    CHECK(chunk->rows == (first == 0 ? 69 : 70));
    CHECK(chunk->first_row.size() == (first == 0 ? 2 * coded.geometry.kv_row_bytes() : 0));
    std::vector<std::uint32_t> tokens = chunk->tokens;
    std::ranges::sort(tokens);
    for (std::size_t i = 0; i < tokens.size(); ++i) CHECK(tokens[i] == i + (first == 0 ? 1 : 0));
    CHECK(std::ranges::is_sorted(chunk->steps));  // the finest first
    for (const auto& runs : chunk->runs) {
      std::size_t next = 0;
      for (const JointChunk::Run& run : runs) {
        CHECK(run.first == next);
        next += run.count;
        CHECK(run.wide <= run.columns);
        CHECK(run.symbol_of.size() == run.columns);
        CHECK(std::ranges::count_if(run.symbol_of, [](std::int32_t of) { return of >= 0; }) ==
              static_cast<std::ptrdiff_t>(run.tables.size()));
        CHECK(run.columns <= runs.front().columns);
      }
      CHECK(next == chunk->rows);
    }
    CHECK(chunk->runs[0].size() == 3);
    CHECK(chunk->streams == 32);
  }
}

TEST_CASE("what is no chunk of these rows is refused") {
  const CodedChunk coded(20, 64, {});
  CHECK_THROWS_AS(static_cast<void>(JointChunk::read(*coded.profile, 2, coded.geometry, coded.bytes, {64, 84})),
                  PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(coded.read({64, 64})), PreconditionError);
  CHECK(coded.read({0, 20}).error().code == ErrorCode::corrupt);  // it has no first row
  auto short_one = coded;
  for (const std::size_t bytes : {0U, 9U, 11U}) {
    short_one.bytes.assign(coded.bytes.begin(), coded.bytes.begin() + bytes);
    CHECK(short_one.read({64, 84}).error().code == ErrorCode::truncated);
  }
  auto other = coded;
  other.profile = Profile::create(random_profile(coded.geometry, {1, 3}, 8, 0, 5), coded.geometry).value();
  CHECK(other.read({64, 84}).error().code == ErrorCode::unsupported);
}
