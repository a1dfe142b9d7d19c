#include "krul/model/generate.hpp"

#include <doctest/doctest.h>

#include "support/toy_conversation.hpp"

namespace krul {
namespace {

/// Steps that never end a text and show it to nobody.
ReplySteps quiet() {
  return {.ends = [](Token) { return false; },
          .next = {},
          .show = [](Token) { return true; },
          .interrupted = [] { return false; }};
}

TEST_CASE("a text goes on by the most likely tokens behind its prompt") {
  toy::Backend model{ElementType::f32};
  const auto prompt = test::toy_tokens(20, 3);
  const auto text = generate(model, prompt, {.most_tokens = 5}, quiet()).value();
  CHECK(text.ended == Ended::length);
  REQUIRE(text.tokens.size() == 5);
  auto all = prompt;
  for (const Token token : text.tokens) {
    CHECK(token == greedy(test::run_through(model, all).logits));
    all.push_back(token);
  }
}

TEST_CASE("a text ends with the context") {
  toy::Backend model{ElementType::f32};
  const std::size_t context = model.geometry().context;
  const auto text = generate(model, test::toy_tokens(context - 2), {.most_tokens = 100}, quiet()).value();
  CHECK(text.ended == Ended::context);
  CHECK(text.tokens.size() == 3);  // two with room for them, and one that was chosen behind the last
}

}  // namespace
}  // namespace krul
