#include "krul/similarity/attention_statistics.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <limits>

using namespace krul;

namespace {

/// Two layers, one head, three rows; 100 keys in two bins.
AttentionStatistics pencil() {
  AttentionStatistics statistics(2, 1);
  statistics.rows = 4;
  statistics.squared = {0, 9, 9, 0};
  statistics.mass = {1, 3, 3, 1};
  return statistics;
}

void put_u32(std::vector<std::byte>& bytes, std::size_t at, std::uint32_t value) {
  std::memcpy(&bytes[at], &value, sizeof value);
}

}  // namespace

TEST_CASE("the distance is the root of the sum of squares") {
  const auto statistics = pencil();

  CHECK(statistics.distance(0, 1) == 3);
  CHECK(statistics.distance(1, 1) == 0);
  CHECK_THROWS_AS(static_cast<void>(statistics.distance(0, 2)), PreconditionError);
}

TEST_CASE("edge masses cut bins in proportion to the keys in them") {
  const auto statistics = pencil();

  // Of 100 keys, the first ten are 10/64 of the first bin; the last ten are 10/36 of the second, which holds 36.
  CHECK(statistics.edge_mass(0, 100) == doctest::Approx((10.0 / 64 * 1 + 10.0 / 36 * 3) / 4));
  CHECK(statistics.edge_mass(1, 100) == doctest::Approx((10.0 / 64 * 3 + 10.0 / 36 * 1) / 4));
  // A quarter of 128 keys is half a bin.
  CHECK(statistics.edge_mass(0, 128, 0.25) == doctest::Approx(2.0 / 4));
  // From a half on, all keys are at an edge.
  CHECK(statistics.edge_mass(0, 100, 0.5) == doctest::Approx(1));
  CHECK(statistics.edge_mass(0, 100, 1) == doctest::Approx(1));
  CHECK(statistics.edge_mass(0, 100, 0) == 0);
  CHECK(AttentionStatistics(2, 1).edge_mass(0, 100) == 0);
  CHECK_THROWS_AS(static_cast<void>(statistics.edge_mass(2, 100)), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(statistics.edge_mass(0, 100, 1.5)), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(statistics.mass_before(2, 1, 100)), PreconditionError);
}

TEST_CASE("statistics of other rows are added, whichever saw more keys") {
  auto statistics = pencil();
  AttentionStatistics later(2, 1);
  later.rows = 1;
  later.squared = {0, 16, 16, 0};
  later.mass = {0.25, 0.25, 0.5, 0.5, 0.25, 0.25};

  statistics.add(later);

  CHECK(statistics.rows == 5);
  CHECK(statistics.distance(0, 1) == 5);
  CHECK(statistics.mass == std::vector<double>{1.25, 3.25, 0.5, 3.5, 1.25, 0.25});
  auto reversed = later;
  reversed.add(pencil());
  CHECK(reversed == statistics);
  AttentionStatistics nothing;
  nothing.add(statistics);
  CHECK(nothing == statistics);
  nothing.add(AttentionStatistics());
  CHECK(nothing == statistics);
  CHECK_THROWS_AS(statistics.add(AttentionStatistics(3, 1)), PreconditionError);
  CHECK_THROWS_AS(statistics.add(AttentionStatistics(2, 2)), PreconditionError);
}

TEST_CASE("what was written is read again") {
  for (const auto& statistics : {pencil(), AttentionStatistics(), AttentionStatistics(1, 4)}) {
    const auto read = parse_attention_statistics(serialize(statistics));
    REQUIRE(read);
    CHECK(*read == statistics);
  }
  // Floats keep 24 bits; what is larger than all of them becomes the largest.
  auto statistics = pencil();
  statistics.squared = {0, 0.1, 0.1, 0};
  statistics.mass[0] = 1e300;
  const auto read = parse_attention_statistics(serialize(statistics));
  REQUIRE(read);
  CHECK(read->squared[1] == doctest::Approx(0.1).epsilon(0x1p-24));
  CHECK(read->mass[0] == static_cast<double>(std::numeric_limits<float>::max()));
  statistics.squared.pop_back();
  CHECK_THROWS_AS(static_cast<void>(serialize(statistics)), PreconditionError);
}

TEST_CASE("damaged, foreign and absurd bytes are refused") {
  const auto bytes = serialize(pencil());
  for (std::size_t length = 0; length < bytes.size(); ++length)
    CHECK_FALSE(parse_attention_statistics(std::span(bytes).first(length)));
  for (std::size_t at = 0; at < bytes.size(); ++at)
    for (const auto bit : {std::byte{1}, std::byte{0x80}}) {
      auto damaged = bytes;
      damaged[at] ^= bit;
      CHECK_FALSE(parse_attention_statistics(damaged));
    }
  auto longer = bytes;
  longer.push_back(std::byte{0});
  CHECK_FALSE(parse_attention_statistics(longer));

  const auto code_after = [&](std::size_t at, std::uint32_t value) {
    auto changed = bytes;
    put_u32(changed, at, value);
    return parse_attention_statistics(changed).error().code;
  };
  CHECK(parse_attention_statistics(std::span(bytes).first(9)).error().code == ErrorCode::truncated);
  CHECK(code_after(0, 7) == ErrorCode::corrupt);
  CHECK(code_after(4, 2) == ErrorCode::unsupported_version);
  CHECK(code_after(8, 0xffffffff) == ErrorCode::too_large);
  CHECK(code_after(12, 0xffffffff) == ErrorCode::too_large);
  CHECK(code_after(16, 0xffffffff) == ErrorCode::too_large);
  CHECK(code_after(8, 4096) == ErrorCode::truncated);
  CHECK(code_after(8, 1) == ErrorCode::corrupt);
}

TEST_CASE("a sum that is no number is refused even if the bytes are whole") {
  auto statistics = pencil();
  statistics.squared = {0, std::numeric_limits<double>::quiet_NaN(), 0, 0};
  const auto read = parse_attention_statistics(serialize(statistics));
  REQUIRE_FALSE(read);
  CHECK(read.error().code == ErrorCode::corrupt);
}
