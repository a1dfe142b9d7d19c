#include <doctest/doctest.h>

#include <krul/backend/conformance/pass.hpp>
#include <krul/backend/forward_each.hpp>

#include "../../../examples/02_your_own_backend/toy_backend.hpp"

using krul::PreconditionError;
using krul::Token;

namespace {

using Part = krul::Continuation<krul::HostKvCache>;

const std::vector<Token> tokens{3, 1, 4, 1, 5, 9, 2, 6}, others{2, 7, 1, 8, 2};

}  // namespace

// The toy backend runs one cache after another. The same for one that batches caches is in unit/model and conformance.

TEST_CASE("each conversation goes on as alone") {
  toy::Backend model;
  const std::size_t vocabulary = model.geometry().vocabulary;
  auto one = model.make_cache(8), two = model.make_cache(8);
  auto batch = model.make_batch();
  std::vector<float> logits(2 * vocabulary);
  const std::span<const Token> first(tokens), second(others);
  krul::forward_each<toy::Backend>(model, batch, std::vector<Part>{{&one, first.first(5)}, {&two, second.first(4)}},
                                   logits);
  krul::forward_each<toy::Backend>(model, batch, std::vector<Part>{{&one, first.subspan(5)}, {&two, second.subspan(4)}},
                                   logits);
  const auto expected = {krul::conformance::run(model, first, {}), krul::conformance::run(model, second, {})};
  CHECK(one.length() == tokens.size());
  CHECK(two.length() == others.size());
  auto row = std::span(logits).first(vocabulary);
  for (const auto& outcome : expected) {
    CHECK(std::ranges::equal(row, std::span(outcome.logits).last(vocabulary)));
    row = std::span(logits).last(vocabulary);
  }
  krul::forward_each<toy::Backend>(model, batch, {}, {});
}

TEST_CASE("parts that cannot be meant are refused before any cache changes") {
  toy::Backend model;
  auto one = model.make_cache(8), two = model.make_cache(3);
  auto batch = model.make_batch();
  std::vector<float> logits(2 * model.geometry().vocabulary);
  const auto run = [&](std::span<const Token> first, std::span<const Token> second, std::span<float> out) {
    krul::forward_each<toy::Backend>(model, batch, std::vector<Part>{{&one, first}, {&two, second}}, out);
  };
  const std::span<const Token> all(tokens);
  CHECK_THROWS_AS(run(all, all.first(3), std::span(logits).first(5)), PreconditionError);
  CHECK_THROWS_AS(run(all, {}, logits), PreconditionError);
  CHECK_THROWS_AS(run(all, all.first(4), logits), PreconditionError);
  CHECK(one.length() == 0);
}
