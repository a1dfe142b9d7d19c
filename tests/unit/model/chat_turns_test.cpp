#include "krul/model/chat_turns.hpp"

#include <doctest/doctest.h>

namespace {
using krul::Token;
using krul::without_oldest;

std::vector<Token> first_tokens(Token count) {
  std::vector<Token> tokens;
  for (Token token = 0; token < count; ++token) tokens.push_back(token);
  return tokens;
}

TEST_CASE("the fewest of the oldest turns are left out, never the system's or the last") {
  const auto tokens = first_tokens(20);
  const std::size_t users[] = {3, 8, 12, 17};
  const auto one = without_oldest(tokens, users, 15);
  REQUIRE(one);
  CHECK(one->left_out == 5);
  CHECK(one->tokens == std::vector<Token>{0, 1, 2, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19});
  const auto all_but_the_last = without_oldest(tokens, users, 6);
  REQUIRE(all_but_the_last);
  CHECK(all_but_the_last->tokens == std::vector<Token>{0, 1, 2, 17, 18, 19});
  CHECK_FALSE(without_oldest(tokens, users, 5));
}

TEST_CASE("a conversation of one turn, or of none that can be told, stays whole") {
  const auto tokens = first_tokens(20);
  const std::size_t only[] = {3};
  CHECK_FALSE(without_oldest(tokens, only, 10));
  CHECK_FALSE(without_oldest(tokens, {}, 10));
}

}  // namespace
