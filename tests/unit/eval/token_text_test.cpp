#include "krul/eval/token_text.hpp"

#include <doctest/doctest.h>

namespace krul::eval {
namespace {

std::vector<TokenText> some_texts() {
  return {{"1", "a", std::vector<Token>(10)},
          {"2", "a", std::vector<Token>(4)},
          {"3", "b", std::vector<Token>(6)},
          {"4", "a", std::vector<Token>(7)}};
}

TEST_CASE("texts that are too short are left out, and do not count against the limit of their source") {
  const auto ids = [](const std::vector<TokenText>& texts) {
    std::string found;
    for (const TokenText& text : texts) found += text.id;
    return found;
  };
  CHECK(ids(long_enough(some_texts(), 6)) == "134");
  CHECK(ids(long_enough(some_texts(), 6, 1)) == "13");
  CHECK(ids(long_enough(some_texts(), 0, 2)) == "123");
  CHECK(long_enough(some_texts(), 11).empty());
}

TEST_CASE("a history of up to so many tokens, and the new ones behind it") {
  const auto cut = cut_texts(long_enough(some_texts(), 6), 5, 4);
  REQUIRE(cut.size() == 3);
  CHECK(cut[0].history == 5);
  CHECK(cut[0].all.size() == 9);
  CHECK(cut[1].id == "3");
  CHECK(cut[1].source == "b");
  CHECK(cut[1].history == 2);
  CHECK(cut[1].fresh().size() == 4);
  CHECK_THROWS_AS(static_cast<void>(cut_texts(some_texts(), 5, 4)), PreconditionError);
}

}  // namespace
}  // namespace krul::eval
