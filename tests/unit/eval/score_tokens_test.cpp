#include "krul/eval/score_tokens.hpp"

#include <doctest/doctest.h>

#include "krul/eval/continuation.hpp"
#include "support/toy_conversation.hpp"

using namespace krul;

TEST_CASE("each token is scored given those before it, piece by piece") {
  toy::Backend model;
  const auto tokens = test::toy_tokens(300);
  const std::size_t vocabulary = model.geometry().vocabulary;
  std::size_t rows = 0, seen = 0;
  const auto found = eval::score_tokens(model, tokens, [&](std::span<const float> logits, std::size_t done) {
    rows += logits.size() / vocabulary;
    CHECK(rows == done);
    ++seen;
  });
  CHECK(seen == 3);
  CHECK(rows == 300);
  REQUIRE(found.size() == 299);
  auto cache = model.make_cache(300);
  const auto logits = eval::logits_after(model, cache, tokens, 300);
  for (const std::size_t at : {0, 127, 128, 298}) {
    const std::span<const float> row(logits.data() + at * vocabulary, vocabulary);
    CHECK(found[at] == doctest::Approx(NextToken(row).log_probability(tokens[at + 1])));
  }
  const std::span<const Token> one(tokens.data(), 1);
  CHECK(eval::score_tokens(model, one).empty());
  CHECK_THROWS_AS(static_cast<void>(eval::score_tokens(model, {})), PreconditionError);
}
