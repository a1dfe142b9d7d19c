#include "krul/compress/entropy/table_choice.hpp"

#include <doctest/doctest.h>

#include "support/entropy_samples.hpp"

using namespace krul;
using namespace krul::testing;

namespace {

constexpr std::size_t size = 63;

std::vector<std::uint8_t> near(std::span<const std::uint8_t> indices, unsigned spread, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::uint8_t> result;
  for (const int index : indices) {
    const int moved = index + static_cast<int>(random() % (2 * spread + 1)) - static_cast<int>(spread);
    result.push_back(static_cast<std::uint8_t>(std::clamp(moved, 0, static_cast<int>(size) - 1)));
  }
  return result;
}

std::vector<std::uint8_t> some_indices(std::size_t count) {
  std::mt19937 random(1);
  std::vector<std::uint8_t> indices;
  for (std::size_t i = 0; i < count; ++i) indices.push_back(static_cast<std::uint8_t>(random() % size));
  return indices;
}

}  // namespace

TEST_CASE("indices come back, however good the prediction was") {
  for (const std::size_t count : {0U, 1U, 3U, 4U, 5U, 1000U})
    for (const unsigned spread : {0U, 1U, 5U, 63U}) {
      CAPTURE(count);
      CAPTURE(spread);
      const auto indices = some_indices(count);
      const auto predicted = near(indices, spread, 2);
      const auto bytes = encode_tables(indices, predicted);
      std::vector<std::uint8_t> out(count);
      CHECK(decode_tables(bytes, predicted, size, out));
      CHECK(out == indices);
      if (spread == 0) CHECK(bytes.size() == 1);
      // Evenly -1, 0 or 1 is log2(3) bits; the rest is for states and for a table that is not made for it.
      if (spread == 1) CHECK(static_cast<double>(bytes.size()) <= 17 + static_cast<double>(count) * 2.2 / 8);
    }
}

TEST_CASE("a choice that knows the prediction takes fewer bytes in all") {
  const auto sample = symbol_sample("small", {800, 64}, 3);
  const auto predicted = near(sample.tables, 2, 4);
  const auto bytes_with = [&](std::span<const std::uint8_t> tables) {
    return universal_encoder().encode(sample.block, sample.symbols, tables).size() +
           encode_tables(tables, predicted).size();
  };
  const auto chosen = choose_tables(universal_encoder(), sample.block, sample.symbols, predicted);
  CHECK(bytes_with(chosen) < bytes_with(sample.tables));
  CHECK(choose_tables(universal_encoder(), sample.block, sample.symbols, sample.tables) == sample.tables);
}

TEST_CASE("a choice finds each column's best index from wherever the prediction is") {
  for (const auto family : {"small", "zeros", "wide"}) {
    const auto sample = symbol_sample(family, {400, 64}, 5);
    for (const int predicted : {0, 1, 20, 40, 62}) {
      CAPTURE(family);
      CAPTURE(predicted);
      const std::vector<std::uint8_t> all(400, static_cast<std::uint8_t>(predicted));
      const auto chosen = choose_tables(universal_encoder(), sample.block, sample.symbols, all);
      const auto bytes_with = [&](std::span<const std::uint8_t> tables) {
        return universal_encoder().encode(sample.block, sample.symbols, tables).size() +
               encode_tables(tables, all).size();
      };
      // The table of differences is the one for the free choice: some bytes more are possible where all are far away.
      CHECK(bytes_with(chosen) <= bytes_with(sample.tables) + 4);
    }
  }
}

TEST_CASE("a set of few tables is priced as a whole") {
  const SymbolEncoder few(TableSet({universal_tables().table(4), universal_tables().table(20)}));
  const auto sample = symbol_sample("small", {50, 64}, 6);
  const auto chosen = choose_tables(few, sample.block, sample.symbols, std::vector<std::uint8_t>(50, 1));
  for (std::size_t column = 0; column < 50; ++column)
    if (chosen[column] != 1) CHECK(chosen[column] == few.best_table(sample.column(column)));
}

TEST_CASE("damaged indices are an error or indices of the set") {
  const auto indices = some_indices(100);
  const auto predicted = near(indices, 2, 5);
  const auto bytes = encode_tables(indices, predicted);
  std::vector<std::uint8_t> out(100);
  for (std::size_t length = 0; length < bytes.size(); ++length)
    CHECK(!decode_tables(std::span(bytes).first(length), predicted, size, out));
  CHECK(decode_tables({}, predicted, size, out).error().code == ErrorCode::truncated);
  std::mt19937 random(6);
  for (int round = 0; round < 500; ++round) {
    auto hurt = bytes;
    hurt[random() % hurt.size()] ^= static_cast<std::byte>(1 + random() % 255);
    if (decode_tables(hurt, predicted, size, out))
      CHECK(std::all_of(out.begin(), out.end(), [](auto index) { return index < size; }));
  }
  // The same bytes for a smaller set, and bytes after "no differences".
  CHECK(decode_tables(bytes, predicted, 10, out).error().code == ErrorCode::corrupt);
  CHECK(decode_tables(std::vector<std::byte>(2), predicted, size, out).error().code == ErrorCode::corrupt);
  CHECK(decode_tables(std::vector<std::byte>(1, std::byte{9}), predicted, size, out).error().code ==
        ErrorCode::corrupt);
}

TEST_CASE("lengths and indices that do not fit are refused") {
  const std::vector<std::uint8_t> three{1, 2, 3}, two{1, 2}, large{1, 2, 64};
  CHECK_THROWS_AS((void)encode_tables(three, two), PreconditionError);
  CHECK_THROWS_AS((void)encode_tables(large, three), PreconditionError);
  CHECK_THROWS_AS((void)encode_tables(three, large), PreconditionError);
  std::vector<std::uint8_t> out(3);
  CHECK_THROWS_AS((void)decode_tables({}, two, size, out), PreconditionError);
  const std::vector<std::int16_t> symbols(6);
  CHECK_THROWS_AS((void)choose_tables(universal_encoder(), {3, 3}, symbols, three), PreconditionError);
  CHECK_THROWS_AS((void)choose_tables(universal_encoder(), {3, 2}, symbols, two), PreconditionError);
  CHECK_THROWS_AS((void)choose_tables(universal_encoder(), {3, 2}, symbols, large), PreconditionError);
}
