#include "krul/eval/greedy_text.hpp"

#include <doctest/doctest.h>

#include "support/toy_conversation.hpp"

namespace krul {
namespace {

TEST_CASE("a greedy text goes on as it was chosen behind the same cache, and otherwise behind another") {
  toy::Backend model{ElementType::f32};
  const auto tokens = test::toy_tokens(80, 3);
  const auto history = std::span(tokens).first(60), prompt = std::span(tokens).subspan(60);
  const std::size_t vocabulary = model.geometry().vocabulary;
  const auto cache_of = [&](std::span<const Token> before) {
    auto cache = model.make_cache(120);
    static_cast<void>(eval::logits_after(model, cache, before, 1));
    return cache;
  };
  auto cache = cache_of(history);
  const auto text = eval::greedy_text(model, cache, prompt, 12);
  REQUIRE(text.tokens.size() == 12);
  REQUIRE(text.logits.size() == 12 * vocabulary);
  for (std::size_t i = 0; i < 12; ++i)
    CHECK(text.tokens[i] == greedy(std::span(text.logits).subspan(i * vocabulary, vocabulary)));

  auto same = cache_of(history);
  const auto first = eval::logits_after(model, same, prompt, 1);
  const auto none = eval::divergence_from(text, model, same, first);
  CHECK(none.kl == 0);
  CHECK_FALSE(none.first_difference);

  auto other = cache_of(std::span(tokens).subspan(20, 40));
  const auto other_first = eval::logits_after(model, other, prompt, 1);
  CHECK(eval::divergence_from(text, model, other, other_first).kl > 0);
}

}  // namespace
}  // namespace krul
