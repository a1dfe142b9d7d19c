#include "krul/eval/prefill_bench.hpp"

#include <doctest/doctest.h>

#include "krul/eval/continuation.hpp"
#include "support/ticking_clock.hpp"
#include "support/toy_conversation.hpp"

namespace krul::eval {
namespace {

TEST_CASE("each pass runs the same tokens behind the same history") {
  toy::Backend model;
  const auto tokens = test::toy_tokens(40);
  const auto expected = logits_of(model, std::span<const Token>(tokens), 1);
  for (const std::size_t history : {0, 25}) {
    PrefillBench bench(model, tokens, history, test::TickingClock{});
    for (int pass = 0; pass < 2; ++pass) {
      CHECK(bench.pass_s() > 0);
      for (std::size_t i = 0; i < expected.size(); ++i)
        CHECK(bench.logits()[i] == doctest::Approx(expected[i]).epsilon(0.01));  // other pieces round otherwise
    }
  }
  CHECK_THROWS_AS(PrefillBench(model, tokens, 40, test::TickingClock{}), PreconditionError);
}

}  // namespace
}  // namespace krul::eval
