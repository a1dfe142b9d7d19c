#include <doctest/doctest.h>

#include <krul/backend/conformance/pass.hpp>
#include <krul/backend/forward.hpp>

#include "../../../examples/02_your_own_backend/toy_backend.hpp"

using krul::PreconditionError;
using krul::Token;

namespace {

const std::vector<Token> digits{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3};
const std::size_t vocabulary = toy::Backend().geometry().vocabulary;

}  // namespace

// A row of the toy backend is computed by itself, so every comparison here is exact.

TEST_CASE("prefill in pieces of any size leaves the same cache and logits as all at once") {
  toy::Backend model;
  const auto whole = krul::conformance::run(model, digits, {});
  for (std::size_t piece = 1; piece <= digits.size() + 1; ++piece)
    for (const std::size_t rows : {0, 1, 3}) {
      CAPTURE(piece);
      CAPTURE(rows);
      auto cache = model.make_cache(digits.size());
      auto batch = model.make_batch();
      std::vector<float> logits(rows * vocabulary);
      krul::prefill(model, cache, batch, digits, logits, piece);
      CHECK(cache.length() == digits.size());
      CHECK(krul::conformance::all_rows(model, cache, digits.size()) == whole.rows);
      CHECK(std::ranges::equal(logits, std::span(whole.logits).last(rows * vocabulary)));
    }
}

TEST_CASE("forward gives the logits of as many rows as there is room for, with and without an observer") {
  toy::Backend model;
  const auto whole = krul::conformance::run(model, digits, {});
  for (std::size_t rows = 0; rows <= digits.size(); ++rows)
    for (const bool observed : {false, true}) {
      auto cache = model.make_cache(digits.size());
      auto batch = model.make_batch();
      std::vector<float> logits(rows * vocabulary);
      std::size_t blocks = 0;
      const auto count = [&](const krul::AttentionBlock&) { ++blocks; };
      if (observed)
        krul::forward(model, cache, batch, digits, logits, count);
      else
        krul::forward(model, cache, batch, digits, logits);
      CHECK(std::ranges::equal(logits, std::span(whole.logits).last(rows * vocabulary)));
      CHECK(krul::conformance::all_rows(model, cache, digits.size()) == whole.rows);
      CHECK(blocks == (observed ? model.geometry().layers : 0));
    }
}

TEST_CASE("forward goes on from what is committed and commits what it ran") {
  toy::Backend model;
  auto cache = model.make_cache(digits.size());
  auto batch = model.make_batch();
  krul::forward(model, cache, batch, std::span(digits).first(5), {});
  CHECK(cache.length() == 5);
  cache.truncate(3);
  krul::forward(model, cache, batch, std::span(digits).subspan(3), {});
  CHECK(cache.length() == digits.size());
  CHECK(krul::conformance::all_rows(model, cache, digits.size()) == krul::conformance::run(model, digits, {}).rows);
}

TEST_CASE("calls that cannot be meant are refused before the cache changes") {
  toy::Backend model;
  auto cache = model.make_cache(digits.size());
  auto batch = model.make_batch();
  std::vector<float> logits(17 * vocabulary);
  const auto out = std::span(logits);
  const auto run = [&](std::size_t count, std::size_t values) {
    krul::forward(model, cache, batch, std::span(digits).first(count), out.first(values));
  };
  CHECK_THROWS_AS(run(0, 0), PreconditionError);
  CHECK_THROWS_AS(run(4, 5 * vocabulary), PreconditionError);
  CHECK_THROWS_AS(run(4, vocabulary + 1), PreconditionError);
  CHECK_THROWS_AS(run(4, 1), PreconditionError);
  auto small = model.make_cache(3);
  CHECK_THROWS_AS(krul::forward(model, small, batch, std::span(digits).first(4), {}), PreconditionError);
  CHECK_THROWS_AS(krul::prefill(model, cache, batch, digits, {}, 0), PreconditionError);
  CHECK_THROWS_AS(krul::prefill(model, cache, batch, {}, {}), PreconditionError);
  CHECK(cache.length() == 0);
  CHECK(cache.present(0).ranges().empty());
}
