#include <doctest/doctest.h>

#include <krul/core/tokens.hpp>
#include <random>
#include <set>

using krul::TokenRange;
using krul::TokenSet;

namespace {

/// TokenSet the slow way: every position by itself.
struct Twin {
  std::set<std::size_t> tokens;

  void insert(TokenRange range) {
    for (std::size_t token = range.begin; token < range.end; ++token) tokens.insert(token);
  }
  void truncate(std::size_t length) { tokens.erase(tokens.lower_bound(length), tokens.end()); }
  bool contains(TokenRange range) const {
    for (std::size_t token = range.begin; token < range.end; ++token)
      if (!tokens.contains(token)) return false;
    return true;
  }
  /// Maximal runs of positions in `range` for which being there is `there`.
  std::vector<TokenRange> runs(TokenRange range, bool there) const {
    std::vector<TokenRange> found;
    for (std::size_t token = range.begin; token < range.end; ++token) {
      if (tokens.contains(token) != there) continue;
      if (!found.empty() && found.back().end == token)
        ++found.back().end;
      else
        found.push_back({token, token + 1});
    }
    return found;
  }
};

}  // namespace

TEST_CASE("TokenSet agrees with a set of positions over random operations") {
  constexpr std::size_t positions = 40;
  std::mt19937 random(1);
  const auto draw = [&](std::size_t below) { return static_cast<std::size_t>(random() % below); };
  for (int round = 0; round < 300; ++round) {
    TokenSet set;
    Twin twin;
    for (int operation = 0; operation < 30; ++operation) {
      const std::size_t begin = draw(positions), end = begin + draw(9);
      if (draw(8) == 0) {
        set.truncate(begin);
        twin.truncate(begin);
      } else {
        set.insert({begin, end});
        twin.insert({begin, end});
      }
      REQUIRE(set.ranges() == twin.runs({0, 2 * positions}, true));
      const std::size_t from = draw(positions), to = from + draw(positions);
      REQUIRE(set.contains({from, to}) == twin.contains({from, to}));
      REQUIRE(set.missing({from, to}) == twin.runs({from, to}, false));
    }
  }
}

TEST_CASE("TokenSet joins what touches") {
  TokenSet set;
  set.insert({0, 3});
  set.insert({6, 9});
  CHECK(set.ranges() == std::vector<TokenRange>{{0, 3}, {6, 9}});
  set.insert({3, 6});
  CHECK(set.ranges() == std::vector<TokenRange>{{0, 9}});
}

TEST_CASE("an empty range is always contained and never inserted") {
  TokenSet set;
  set.insert({5, 5});
  CHECK(set.ranges().empty());
  CHECK(set.contains({5, 5}));
  CHECK(set.missing({5, 5}).empty());
  set.truncate(0);
  CHECK(set.ranges().empty());
}

TEST_CASE("sizes of ranges") {
  CHECK(TokenRange{2, 5}.size() == 3);
  CHECK(TokenRange{2, 2}.empty());
  CHECK(krul::RowRange{1, 4}.size() == 3);
}
