#include "krul/eval/fit_kvtc.hpp"

#include <doctest/doctest.h>

#include "support/toy_conversation.hpp"

namespace krul {
namespace {

TEST_CASE("a basis is fitted to what any backend makes of texts") {
  toy::Backend model{ElementType::f32};
  std::vector<std::vector<Token>> texts;
  for (unsigned seed = 1; seed <= 8; ++seed) texts.push_back(test::toy_tokens(100, seed));
  texts.push_back(test::toy_tokens(2));  // nothing behind its sinks
  std::vector<std::size_t> told;
  const auto basis = eval::fit_kvtc(
      model, texts, {.rank = 8, .tokens = 300, .longest = 90, .sample_every = 4, .progress = [&](std::size_t tokens) {
                       told.push_back(tokens);
                     }});
  REQUIRE(basis);
  CHECK(basis->keys.rank() == 8);
  CHECK(basis->keys.features() == model.geometry().layers * model.geometry().kv_values());
  REQUIRE(told.size() > 2);  // until there are 300
  CHECK(told.size() < texts.size());
  CHECK(told[1] == 90 - eval::KvtcSettings{}.sinks);
}

TEST_CASE("texts that are all sinks fit nothing") {
  toy::Backend model{ElementType::f32};
  const std::vector<std::vector<Token>> texts = {test::toy_tokens(eval::KvtcSettings{}.sinks)};
  const auto refused = eval::fit_kvtc(model, texts);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == ErrorCode::invalid_argument);
}

}  // namespace
}  // namespace krul
