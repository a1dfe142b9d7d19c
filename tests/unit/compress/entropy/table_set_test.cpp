#include "krul/compress/entropy/table_set.hpp"

#include <doctest/doctest.h>

#include <random>

#include "krul/reference/entropy.hpp"
#include "support/entropy_samples.hpp"

using namespace krul;
using namespace krul::testing;

namespace {

const std::vector<SymbolTable>& two_tables() {
  static const std::vector<SymbolTable> tables{SymbolTable::from_counts(std::vector<std::uint64_t>{1, 5, 1, 1}),
                                               SymbolTable::from_counts(std::vector<std::uint64_t>(64, 1), 3)};
  return tables;
}

/// Every slot as an AliasTable finds it.
void check_slots(const SymbolTable& table) {
  const detail::AliasTable alias(table);
  const auto expected = reference::slots_of(table);
  REQUIRE(expected.size() == SymbolTable::total);
  std::vector<std::vector<bool>> seen;
  for (const auto frequency : table.frequencies()) seen.emplace_back(frequency, false);
  std::size_t wrong = 0;
  for (unsigned slot = 0; slot < SymbolTable::total; ++slot) {
    const unsigned b = slot / 256;
    const bool own = slot < alias.divider[b];
    const std::size_t symbol = own ? b : alias.alias[b];
    const auto offset = own ? slot % 256 : static_cast<std::uint16_t>(slot - alias.bias[b]);
    const bool as_twin = symbol == expected[slot].symbol && offset == expected[slot].offset &&
                         (own ? alias.own_frequency[b] : alias.alias_frequency[b]) == table.frequencies()[symbol];
    if (!as_twin || seen[symbol].at(offset)) ++wrong;  // each offset of each symbol is there once
    seen[symbol].at(offset) = true;
  }
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("alias tables have the slots of their twin") {
  for (std::size_t index = 1; index < universal_tables().size(); ++index) check_slots(universal_tables().table(index));
  std::mt19937 random(1);
  for (int round = 0; round < 50; ++round) {
    std::vector<std::uint64_t> counts;
    for (std::size_t i = 0; i < 4 + 2 * (random() % 31); ++i) counts.push_back(random() >> random() % 32);
    if (counts.size() % 2 == 1) counts.push_back(0);
    check_slots(SymbolTable::from_counts(counts));
  }
  check_slots(SymbolTable::from_frequencies(std::vector<std::uint16_t>(64, 256), 0).value());  // nothing is shared
}

TEST_CASE("a set has 1 to 63 tables") {
  CHECK_THROWS_AS(TableSet({}), PreconditionError);
  CHECK_THROWS_AS(TableSet(std::vector<SymbolTable>(64, two_tables()[0])), PreconditionError);
  const TableSet set(two_tables());
  CHECK(set.size() == 3);
  CHECK(set.table(2) == two_tables()[1]);
  CHECK(set.alias_tables().size() == 2);
}

TEST_CASE("the universal set is the same everywhere") {
  const auto bytes = universal_tables().serialize();
  std::uint64_t hash = 14695981039346656037U;  // FNV-1a
  for (const std::byte byte : bytes) hash = (hash ^ std::to_integer<std::uint64_t>(byte)) * 1099511628211U;
  CHECK(universal_tables().size() == 63);
  CHECK(hash == 11992653143400641520U);
}

TEST_CASE("sets are read as they were written, and every cut is noticed") {
  const TableSet set(two_tables());
  auto bytes = set.serialize();
  auto rest = std::span<const std::byte>(bytes);
  const auto read = TableSet::parse(rest);
  REQUIRE(read);
  CHECK(*read == set);
  CHECK(rest.empty());
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    auto cut = std::span<const std::byte>(bytes).first(size);
    const auto refused = TableSet::parse(cut);
    REQUIRE(!refused);
    CHECK(refused.error().code == ErrorCode::truncated);
  }
  for (const auto count : {0, 64, 255}) {
    bytes[0] = static_cast<std::byte>(count);
    rest = bytes;
    const auto refused = TableSet::parse(rest);
    REQUIRE(!refused);
    CHECK(refused.error().code == ErrorCode::corrupt);
  }
}
