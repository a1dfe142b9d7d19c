#include "krul/model/context_room.hpp"

#include <doctest/doctest.h>

#include <numeric>

namespace krul {
namespace {

/// A conversation of `count` tokens in which the user's turns begin at 2, 12, 22, ...; the first two are the system's.
std::vector<Token> talk(std::size_t count) {
  std::vector<Token> tokens(count);
  std::iota(tokens.begin(), tokens.end(), 0);
  return tokens;
}
std::vector<std::size_t> users(std::span<const Token> tokens) {
  std::vector<std::size_t> begins;
  for (std::size_t i = 0; i < tokens.size(); ++i)
    if (tokens[i] % 10 == 2) begins.push_back(i);
  return begins;
}
ContextRoom room(bool leaves_out) {
  return {{.context = 40, .reply = 8, .leaves_out = leaves_out}, users};
}

TEST_CASE("a message has room for a reply where the oldest turns can be left out") {
  auto shifting = room(true);
  CHECK(shifting.for_message(talk(32)).size() == 32);
  CHECK(shifting.left_out() == 0);
  const auto shorter = shifting.for_message(talk(38));
  CHECK(shorter.size() == 28);
  CHECK(shorter[1] == 1);
  CHECK(shorter[2] == 12);
  CHECK(shifting.left_out() == 10);
  auto stopping = room(false);
  CHECK(stopping.for_message(talk(38)).size() == 38);
  CHECK(stopping.left_out() == 0);
}

TEST_CASE("a reply that fills the context goes on where that can be had") {
  auto shifting = room(true);
  const auto more = shifting.for_more(talk(40));
  REQUIRE(more);
  CHECK(more->size() == 30);
  CHECK_FALSE(shifting.would_help(talk(40)));  // it has
  auto stopping = room(false);
  CHECK_FALSE(stopping.for_more(talk(40)));
  CHECK(stopping.would_help(talk(40)));
  CHECK_FALSE(stopping.would_help(talk(11)));  // one turn alone
}

TEST_CASE("a single turn that is too long stays as it is") {
  ContextRoom shifting({.context = 8, .reply = 4, .leaves_out = true}, users);
  CHECK(shifting.for_message(talk(11)).size() == 11);
  CHECK_FALSE(shifting.for_more(talk(11)));
}

}  // namespace
}  // namespace krul
