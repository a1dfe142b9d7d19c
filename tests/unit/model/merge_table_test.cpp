#include "krul/model/merge_table.hpp"

#include <doctest/doctest.h>

#include <map>
#include <random>
#include <utility>

using namespace krul;

TEST_CASE("a merge table answers as a map does") {
  std::mt19937 random(5);
  std::map<std::pair<Token, Token>, MergeRank> expected;
  MergeTable table(500);
  for (MergeRank rank = 0; rank < 500; ++rank) {
    const auto left = static_cast<Token>(random() % 40);
    const auto right = static_cast<Token>(random() % 40);
    expected.emplace(std::pair(left, right), rank);  // the first rank stays
    table.insert(left, right, rank);
  }
  for (Token left = 0; left < 40; ++left)
    for (Token right = 0; right < 40; ++right) {
      const auto found = expected.find({left, right});
      CHECK(table.rank(left, right) == (found == expected.end() ? no_merge : found->second));
    }
}

TEST_CASE("an empty merge table merges nothing; a full one takes no more") {
  CHECK(MergeTable().rank(0, 0) == no_merge);
  MergeTable table(1);
  table.insert(1, 2, 7);
  table.insert(1, 2, 8);
  CHECK(table.rank(1, 2) == 7);
  CHECK(table.rank(2, 1) == no_merge);
  CHECK_THROWS_AS(table.insert(2, 1, 9), PreconditionError);
}
