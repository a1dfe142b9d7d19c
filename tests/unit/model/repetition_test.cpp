#include "krul/model/repetition.hpp"

#include <doctest/doctest.h>

#include <numeric>
#include <vector>

using namespace krul;

namespace {

/// `period` different tokens, then the first `repeated` of them again and again.
std::vector<Token> text(std::size_t period, std::size_t repeated) {
  std::vector<Token> tokens(5);
  std::iota(tokens.begin(), tokens.end(), 1000);
  for (std::size_t i = 0; i < period + repeated; ++i) tokens.push_back(static_cast<Token>(i % period));
  return tokens;
}

}  // namespace

TEST_CASE("a tail that repeats what stands before it is found, with its length") {
  CHECK(repeated_tail({}) == 0);
  CHECK(repeated_tail(text(500, 0)) == 0);
  for (const std::size_t period : {1, 7, 31, 32}) {
    CHECK(repeated_tail(text(period, 31)) == 0);
    CHECK(repeated_tail(text(period, 32)) == 32);
    CHECK(repeated_tail(text(period, 90)) == 90);
  }
  CHECK(repeated_tail(text(50, 49)) == 0);  // not all of it once more
  CHECK(repeated_tail(text(50, 50)) == 50);
  CHECK(repeated_tail(text(257, 257)) == 0);  // too far back
  CHECK(repeated_tail(text(3, 6), {.least = 4, .longest = 3}) == 6);
}
