#include "krul/compress/entropy/symbol_encoder.hpp"

#include <doctest/doctest.h>

#include "krul/reference/entropy.hpp"
#include "support/entropy_samples.hpp"

using namespace krul;
using namespace krul::testing;

TEST_CASE("coded blocks are close to the ideal length") {
  for (const std::size_t tokens : {1U, 8U, 31U, 64U, 250U})
    for (const auto family : symbol_families) {
      CAPTURE(tokens);
      CAPTURE(family);
      const auto sample = symbol_sample(family, {500, tokens}, 1);
      const double ideal = reference::ideal_bits(universal_tables(), sample.block, sample.symbols, sample.tables);
      const auto bytes = universal_encoder().encode(sample.block, sample.symbols, sample.tables);
      // A stream begins with 16 bits that say nothing and ends in a state of at most 32. Rounding a state moves it by
      // less than its share of 2^16 / 2^14; on average that is below 0.1 % of a bit, and more than one push a symbol
      // only happens where it costs several bits anyway.
      CHECK(8.0 * static_cast<double>(bytes.size()) <= ideal + 32.0 * static_cast<double>(sample.block.streams()) +
                                                           0.001 * static_cast<double>(sample.symbols.size()) +
                                                           0.001 * ideal);
    }
}

TEST_CASE("idle streams cost nothing") {
  for (std::size_t tokens = 0; tokens < 40; ++tokens) {
    const SymbolBlock block{3, tokens};
    const std::vector<std::int16_t> zeros(block.symbols(), 0);
    CHECK(universal_encoder().encode(block, zeros, std::vector<std::uint8_t>(3, 0)).size() == 4 * block.streams());
  }
  CHECK(universal_encoder().encode({0, 64}, {}, {}).empty());
}

TEST_CASE("every level writes the same bytes, whatever the shape") {
  for (const std::size_t tokens : {1U, 2U, 15U, 16U, 17U, 31U, 32U, 33U, 64U, 65U, 256U})
    for (const std::size_t columns : {1U, 3U, 400U})
      for (const auto family : symbol_families) {
        CAPTURE(tokens);
        CAPTURE(columns);
        CAPTURE(family);
        const auto sample = symbol_sample(family, {columns, tokens}, 7);
        const auto expected =
            universal_encoder().encode(sample.block, sample.symbols, sample.tables, built_levels.front());
        for (const auto level : Processor::detect().levels)
          CHECK(universal_encoder().encode(sample.block, sample.symbols, sample.tables, level) == expected);
      }
}

TEST_CASE("costs of some indices are those of all") {
  std::vector<std::uint32_t> all(universal_encoder().size());
  for (const auto family : symbol_families) {
    const auto sample = symbol_sample(family, {20, 40}, 8);
    for (std::size_t column = 0; column < sample.block.columns; ++column) {
      universal_encoder().costs(sample.column(column), 0, all);
      for (const std::size_t count : {1U, 15U, 16U, 17U, 40U})
        for (const std::size_t first : {std::size_t{0}, std::size_t{5}, all.size() - count}) {
          std::vector<std::uint32_t> some(count);
          universal_encoder().costs(sample.column(column), first, some);
          CHECK(std::equal(some.begin(), some.end(), all.begin() + static_cast<std::ptrdiff_t>(first)));
        }
    }
  }
}

TEST_CASE("costs agree with their twin and name the best table") {
  for (const auto family : symbol_families) {
    const auto sample = symbol_sample(family, {60, 40}, 2);
    std::vector<std::uint32_t> costs(universal_encoder().size());
    for (std::size_t column = 0; column < sample.block.columns; ++column) {
      universal_encoder().costs(sample.column(column), 0, costs);
      std::size_t best = 0;
      for (std::size_t index = 0; index < costs.size(); ++index) {
        if (costs[index] < costs[best]) best = index;
        if (index == 0) continue;
        double bits = 0;
        for (const auto symbol : sample.column(column))
          bits += reference::ideal_bits(universal_tables().table(index), symbol);
        CHECK(std::abs(costs[index] / double{SymbolTable::cost_unit} - bits) <=
              40 * (0.5 / SymbolTable::cost_unit + 0x1p-15));
      }
      CHECK(universal_encoder().best_table(sample.column(column)) == best);
    }
  }
}

TEST_CASE("only zeros take the table of zeros") {
  const std::vector<std::int16_t> zeros(64, 0);
  CHECK(universal_encoder().best_table(zeros) == 0);
  auto one = zeros;
  one.back() = -1;
  CHECK(universal_encoder().best_table(one) != 0);
}

TEST_CASE("the encoder refuses what does not fit") {
  const auto& encoder = universal_encoder();
  const std::vector<std::int16_t> symbols{0, 1, 2, 3};
  const std::vector<std::uint8_t> tables{1, 1}, unknown{1, 63}, zeros{0, 1};
  CHECK_THROWS_AS((void)encoder.encode({2, 3}, symbols, tables), PreconditionError);
  CHECK_THROWS_AS((void)encoder.encode({4, 1}, symbols, tables), PreconditionError);
  CHECK_THROWS_AS((void)encoder.encode({2, 2}, symbols, unknown), PreconditionError);
  CHECK_THROWS_AS((void)encoder.encode({2, 2}, symbols, zeros), PreconditionError);
  std::vector<std::uint32_t> costs(encoder.size() - 1);
  CHECK_THROWS_AS(encoder.costs(symbols, 2, costs), PreconditionError);
  CHECK_THROWS_AS(encoder.costs(symbols, 64, {}), PreconditionError);
  costs.resize(encoder.size());
  CHECK_THROWS_AS(encoder.costs(std::vector<std::int16_t>(65537), 0, costs), PreconditionError);
}
