#include "krul/simulate/trace.hpp"

#include <doctest/doctest.h>

using namespace krul::simulate;

TEST_CASE("requests that go on from one another are one conversation") {
  ConversationFinder finder;
  const auto add = [&](std::size_t input, std::size_t output, std::vector<std::uint64_t> hashes) {
    return finder.add({.at_s = 0, .input = input, .output = output, .hashes = std::move(hashes)}, 10);
  };
  const Arrival first = add(25, 4, {1, 2, 3});
  CHECK(first.conversation == 0);
  CHECK(first.history == 0);
  CHECK(first.prompt == 25);
  const Arrival other = add(25, 4, {1, 7, 8});  // shares a block that ends no turn: another conversation
  CHECK(other.conversation == 1);
  CHECK(other.history == 0);
  const Arrival second = add(42, 1, {1, 2, 4, 5, 6});  // goes on from block 2
  CHECK(second.conversation == 0);
  CHECK(second.history == 29);  // input and output of the turn before
  CHECK(second.prompt == 13);
  CHECK(second.tokens() == 43);
  const Arrival branch = add(40, 1, {1, 2, 9, 10});  // that turn went on already
  CHECK(branch.conversation == 2);
  CHECK(branch.history == 0);
  const Arrival short_turn = add(5, 0, {11});  // no whole block: nothing can go on from it
  CHECK(short_turn.conversation == 3);
  CHECK(short_turn.output == 1);
  CHECK(add(5, 0, {11}).conversation == 4);
  CHECK(finder.conversations() == 5);
}

TEST_CASE("a history leaves at least one new token") {
  ConversationFinder finder;
  static_cast<void>(finder.add({.input = 20, .output = 50, .hashes = {1, 2}}, 10));
  const Arrival next = finder.add({.input = 21, .output = 1, .hashes = {1, 2, 3}}, 10);
  CHECK(next.history == 20);
  CHECK(next.prompt == 1);
}

TEST_CASE("common prefix") {
  const std::vector<std::uint64_t> a = {1, 2, 3}, b = {1, 2, 4, 5}, none;
  CHECK(common_prefix(a, b) == 2);
  CHECK(common_prefix(a, a) == 3);
  CHECK(common_prefix(a, none) == 0);
}
