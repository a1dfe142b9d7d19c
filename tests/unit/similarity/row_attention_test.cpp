#include "krul/similarity/row_attention.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

using namespace krul;

namespace {

RowAttention sample() {
  RowAttention attention({2, 3});
  attention.reserve_rows(3);
  attention.counted = 4;
  attention.squares = {4, 2, 1, 0.5F, 0, 8};
  return attention;
}

}  // namespace

TEST_CASE("what a row received is a mean over query rows") {
  const RowAttention attention = sample();
  CHECK(attention.received(0, 0) == 1);
  CHECK(attention.received(1, 2) == 2);
  CHECK_THROWS_AS(static_cast<void>(attention.received(2, 0)), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(attention.received(0, 3)), PreconditionError);
}

TEST_CASE("after a half life what was seen counts half") {
  RowAttention attention = sample();
  attention.age(static_cast<std::size_t>(RowAttention::half_life));
  CHECK(attention.counted == doctest::Approx(2));
  CHECK(attention.squares[0] == doctest::Approx(2));
  CHECK(attention.received(0, 0) == doctest::Approx(1));
  CHECK(RowAttention::weight_of_age(0) == 1);
}

TEST_CASE("rows are added and taken back in every band") {
  RowAttention attention = sample();
  attention.reserve_rows(2);
  CHECK(attention.rows == 3);
  attention.reserve_rows(4);
  CHECK(attention.squares == std::vector<float>{4, 2, 1, 0, 0.5F, 0, 8, 0});
  attention.truncate(1);
  CHECK(attention.squares == std::vector<float>{4, 0.5F});
}

TEST_CASE("a byte a band and row keep a sixteenth of an octave") {
  const RowAttention attention = sample();
  const auto bytes = serialize(attention);
  CHECK(bytes.size() == 24 + 2 * 4 + 2 * 3 + 8);
  const auto back = parse_row_attention(bytes).value();
  CHECK(back.band_layers == attention.band_layers);
  CHECK(back.counted == attention.counted);
  for (std::size_t i = 0; i < attention.squares.size(); ++i) {
    if (attention.squares[i] == 0) {
      CHECK(back.squares[i] == 0);
    } else {
      CHECK(std::abs(std::log2(back.squares[i] / attention.squares[i])) <= 1.0 / 16 + 1e-6);
    }
  }
  CHECK(serialize(back) == bytes);
}

TEST_CASE("any change to the bytes is an error") {
  const auto bytes = serialize(sample());
  for (std::size_t length = 0; length < bytes.size(); ++length)
    CHECK_FALSE(parse_row_attention(std::span(bytes).first(length)));
  for (std::size_t i = 0; i < 8 * bytes.size(); ++i) {
    auto changed = bytes;
    changed[i / 8] ^= std::byte{1} << i % 8;
    CHECK_FALSE(parse_row_attention(changed));
  }
  auto longer = bytes;
  longer.push_back(std::byte{0});
  CHECK_FALSE(parse_row_attention(longer));
  CHECK(parse_row_attention({}).error().code == ErrorCode::truncated);
}
