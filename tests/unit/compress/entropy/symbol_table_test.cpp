#include "krul/compress/entropy/symbol_table.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "krul/reference/entropy.hpp"

using namespace krul;

namespace {

constexpr double total = SymbolTable::total;

void check_sound(const SymbolTable& table) {
  const auto frequencies = table.frequencies();
  CHECK(frequencies.size() == 2 * table.reach() + 2);
  CHECK(std::accumulate(frequencies.begin(), frequencies.end(), 0U) == SymbolTable::total);
  CHECK(std::find(frequencies.begin(), frequencies.end(), 0) == frequencies.end());
}

std::vector<std::uint64_t> random_counts(std::mt19937& random, std::size_t size) {
  std::vector<std::uint64_t> counts;
  for (std::size_t i = 0; i < size; ++i) counts.push_back(random() >> random() % 32);
  counts[random() % size] += 1;
  return counts;
}

ErrorCode refusal(std::vector<std::uint16_t> frequencies, unsigned shift) {
  const auto table = SymbolTable::from_frequencies(frequencies, shift);
  REQUIRE(!table);
  CHECK(!table.error().message.empty());
  return table.error().code;
}

std::vector<std::byte> bytes_of(std::initializer_list<unsigned> values) {
  std::vector<std::byte> bytes;
  for (const unsigned value : values) bytes.push_back(static_cast<std::byte>(value));
  return bytes;
}

}  // namespace

TEST_CASE("frequencies are taken as they are, or refused") {
  const std::vector<std::uint16_t> good{1, 16381, 1, 1};
  const auto table = SymbolTable::from_frequencies(good, 10);
  REQUIRE(table);
  check_sound(*table);
  CHECK(table->reach() == 1);
  CHECK(table->shift() == 10);
  CHECK(refusal(good, 11) == ErrorCode::corrupt);
  CHECK(refusal({}, 0) == ErrorCode::corrupt);
  CHECK(refusal({8192, 8192}, 0) == ErrorCode::corrupt);         // no reach
  CHECK(refusal({1, 16380, 1, 1, 1}, 0) == ErrorCode::corrupt);  // an odd number
  CHECK(refusal({0, 16382, 1, 1}, 0) == ErrorCode::corrupt);     // a symbol that cannot be coded
  CHECK(refusal({1, 16382, 1, 1}, 0) == ErrorCode::corrupt);     // too much in all
  CHECK(refusal(std::vector<std::uint16_t>(66, 248), 0) == ErrorCode::corrupt);
}

TEST_CASE("counts become shares that cost little more than the entropy") {
  std::mt19937 random(1);
  for (int round = 0; round < 500; ++round) {
    const std::size_t size = 4 + 2 * (random() % 31);
    const auto counts = random_counts(random, size);
    const auto table = SymbolTable::from_counts(counts);
    check_sound(table);
    double sum = 0, excess = 0;
    for (const auto count : counts) sum += static_cast<double>(count);
    for (std::size_t i = 0; i < size; ++i)
      if (const double p = static_cast<double>(counts[i]) / sum; p > 0)
        excess += p * std::log2(p / (table.frequencies()[i] / total));
    // One slot for each symbol and the rest in proportion would take at most log2(T / (T - n)) more than the entropy.
    CHECK(excess <= std::log2(total / (total - static_cast<double>(size))));
  }
}

TEST_CASE("counts of zero mean equal shares, and the largest counts do not overflow") {
  const auto even = SymbolTable::from_counts(std::vector<std::uint64_t>(64, 0));
  check_sound(even);
  CHECK(even.frequencies()[0] == 256);
  const auto largest = std::numeric_limits<std::uint64_t>::max();
  const auto table = SymbolTable::from_counts(std::vector<std::uint64_t>{largest, largest, 1, 0});
  check_sound(table);
  CHECK(table.frequencies()[0] == 8191);
  CHECK(table.frequencies()[3] == 1);
}

TEST_CASE("counts that do not fit are refused") {
  CHECK_THROWS_AS((void)SymbolTable::from_counts(std::vector<std::uint64_t>(2, 1)), PreconditionError);
  CHECK_THROWS_AS((void)SymbolTable::from_counts(std::vector<std::uint64_t>(5, 1)), PreconditionError);
  CHECK_THROWS_AS((void)SymbolTable::from_counts(std::vector<std::uint64_t>(66, 1)), PreconditionError);
  CHECK_THROWS_AS((void)SymbolTable::from_counts(std::vector<std::uint64_t>(4, 1), 11), PreconditionError);
  CHECK_THROWS_AS((void)SymbolTable::fit(std::vector<std::uint64_t>(2, 1), 32767), PreconditionError);
  CHECK_THROWS_AS((void)SymbolTable::fit(std::vector<std::uint64_t>(2, 1), -32769), PreconditionError);
  CHECK_THROWS_AS((void)SymbolTable::discretised(TableShape::laplace, 0), PreconditionError);
  CHECK_THROWS_AS((void)SymbolTable::discretised(TableShape::gaussian, (1U << 24) + 1), PreconditionError);
}

TEST_CASE("a fit is about the cheapest of all reaches and shifts") {
  std::mt19937 random(2);
  for (const double deviation : {0.1, 1.0, 5.0, 40.0, 900.0}) {
    std::normal_distribution<double> normal(0, deviation);
    std::vector<std::uint64_t> counts(8001);
    for (int i = 0; i < 20000; ++i) ++counts[static_cast<std::size_t>(std::lround(normal(random)) + 4000)];
    const auto cost_of = [&](const SymbolTable& table) {
      double bits = 0;
      for (std::size_t i = 0; i < counts.size(); ++i)
        if (counts[i] > 0)
          bits += static_cast<double>(counts[i]) * reference::ideal_bits(table, static_cast<int>(i) - 4000);
      return bits / 20000;
    };
    const double fitted = cost_of(SymbolTable::fit(counts, -4000));
    for (unsigned shift = 0; shift <= SymbolTable::largest_shift; ++shift)
      for (int reach = 1; reach <= 31; ++reach) {
        std::vector<std::uint64_t> folded(2 * static_cast<std::size_t>(reach) + 2);
        for (int i = 0; i < 8001; ++i) {
          const int q = (i - 4000) >> shift;
          folded[std::abs(q) <= reach ? static_cast<std::size_t>(q + reach) : folded.size() - 1] +=
              counts[static_cast<std::size_t>(i)];
        }
        // Reaches are tried in ratios of 3/2 at most, and priced with a slot for each symbol: 64 of 2^14.
        CHECK(fitted <= cost_of(SymbolTable::from_counts(folded, shift)) + 0.01);
      }
  }
  CHECK(SymbolTable::fit({}, 0).reach() == 1);
}

TEST_CASE("discretised tables agree with their twin") {
  for (const auto shape : {TableShape::laplace, TableShape::gaussian})
    for (const double deviation : {0.0625, 0.3, 1.0, 3.0, 6.0}) {
      const auto table = SymbolTable::discretised(shape, static_cast<std::uint32_t>(deviation * 65536));
      check_sound(table);
      REQUIRE(table.shift() == 0);
      const auto expected = reference::discretised(shape, deviation, static_cast<int>(table.reach()));
      for (std::size_t i = 0; i < expected.size(); ++i) {
        // A sample of the density is 1/256 scale wide and may fall on the wrong side of both edges of a bin; none has
        // more than 1/512 of the whole. Shares are whole, and each of the n symbols may have been given one.
        const double bound = 2.0 / 512 + static_cast<double>(expected.size() + 1) / total;
        CHECK(std::abs(table.frequencies()[i] / total - expected[i]) <= bound);
      }
    }
}

TEST_CASE("wide tables have a shift, and even 2^16 values do not escape") {
  const auto table = SymbolTable::discretised(TableShape::gaussian, 200U << 16);
  CHECK(table.shift() >= 4);
  CHECK(reference::ideal_bits(table, 0) < std::log2(200 * 4.14) + 0.1);  // entropy: log2(deviation sqrt(2 pi e))
  std::vector<std::uint64_t> even(65536, 1);
  const auto flat = SymbolTable::fit(even, -32768);
  check_sound(flat);
  CHECK(flat.shift() == SymbolTable::largest_shift);
}

TEST_CASE("costs agree with their twin") {
  std::mt19937 random(3);
  for (int round = 0; round < 50; ++round) {
    const auto table =
        SymbolTable::from_counts(random_counts(random, 4 + 2 * (random() % 31)), static_cast<unsigned>(random() % 11));
    for (int i = 0; i < 200; ++i) {
      const auto symbol = static_cast<std::int16_t>(static_cast<std::int16_t>(random()) >> random() % 16);
      const double cost = table.cost(symbol) / double{SymbolTable::cost_unit};
      // Half a unit, and a logarithm of 16 fraction bits.
      CHECK(std::abs(cost - reference::ideal_bits(table, symbol)) <= 0.5 / SymbolTable::cost_unit + 0x1p-15);
    }
  }
}

TEST_CASE("tables are read as they were written, and every cut is noticed") {
  std::mt19937 random(4);
  for (int round = 0; round < 100; ++round) {
    const auto table =
        SymbolTable::from_counts(random_counts(random, 4 + 2 * (random() % 31)), static_cast<unsigned>(random() % 11));
    std::vector<std::byte> bytes;
    table.serialize(bytes);
    CHECK(bytes.size() <= 2 + 2 * table.frequencies().size());
    bytes.push_back(std::byte{7});  // what follows stays
    std::span<const std::byte> rest(bytes);
    const auto read = SymbolTable::parse(rest);
    REQUIRE(read);
    CHECK(*read == table);
    CHECK(rest.size() == 1);
    for (std::size_t size = 0; size + 1 < bytes.size(); ++size) {
      auto cut = std::span<const std::byte>(bytes).first(size);
      const auto refused = SymbolTable::parse(cut);
      REQUIRE(!refused);
      CHECK(refused.error().code == ErrorCode::truncated);
      CHECK(cut.size() == size);
    }
  }
}

TEST_CASE("bytes that are no table are refused") {
  for (const auto& bytes : {bytes_of({32, 0}), bytes_of({0, 0, 1}), bytes_of({1, 11, 1, 1, 1}),
                            bytes_of({1, 0, 255, 255, 255, 255, 255, 255})}) {
    auto rest = std::span<const std::byte>(bytes);
    const auto table = SymbolTable::parse(rest);
    REQUIRE(!table);
    CHECK(table.error().code == ErrorCode::corrupt);
  }
}
