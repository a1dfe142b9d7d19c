#include "krul/eval/answers.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <random>

#include "krul/reference/quality.hpp"

namespace {
using namespace krul::eval;
using krul::PreconditionError;
using krul::Token;
using Tokens = std::vector<Token>;
using Row = std::vector<float>;

AnswerScore scored(double log_likelihood, bool greedy = false, std::size_t tokens = 2) {
  return {tokens, log_likelihood, greedy};
}

TEST_CASE("an answer's log-likelihood is the sum over its tokens, as the reference has it") {
  const std::size_t vocabulary = 300, length = 4;
  const Tokens answer = {3, 0, 299, 17};
  std::mt19937 random(5);
  std::normal_distribution<float> logit(0, 4);
  Row logits(length * vocabulary);
  for (auto& value : logits) value = logit(random);
  double expected = 0;
  for (std::size_t row = 0; row < length; ++row) {
    const auto of_row = std::span(logits).subspan(row * vocabulary, vocabulary);
    expected += krul::reference::log_softmax(of_row)[static_cast<std::size_t>(answer[row])];
  }
  const auto score = score_answer(logits, answer);
  // A sum of `vocabulary` terms in each of `length` rows, each term off by at most half a unit.
  CHECK(score.log_likelihood == doctest::Approx(expected).epsilon((vocabulary + 16) * length * 0x1p-53));
  CHECK(score.tokens == length);
  CHECK(score.per_token() == score.log_likelihood / 4);
  CHECK_FALSE(score.greedy);
}

TEST_CASE("greedy decoding gives the answer only if each of its tokens is the most likely one") {
  const Row logits = {0, 2, 1, /**/ 3, 2, 1};
  CHECK(score_answer(logits, Tokens{1, 0}).greedy);
  CHECK_FALSE(score_answer(logits, Tokens{1, 1}).greedy);
  CHECK_FALSE(score_answer(logits, Tokens{2, 0}).greedy);
  Row broken = logits;
  broken[5] = std::numeric_limits<float>::quiet_NaN();
  const auto score = score_answer(broken, Tokens{1, 0});
  CHECK_FALSE(score.greedy);
  CHECK(score.log_likelihood == -std::numeric_limits<double>::infinity());
}

TEST_CASE("tasks that the history does not help with are left out") {
  TaskTotals totals;
  CHECK(totals.summary().tasks == 0);
  totals.add({.exact = scored(-2, true), .restored = scored(-4), .without = scored(-8)});
  totals.add({.exact = scored(-6), .restored = scored(-6), .without = scored(-7)});  // just 0.5 nats a token better
  totals.add({.exact = scored(-6), .restored = scored(-90), .without = scored(-6.9)});
  const auto summary = totals.summary();
  CHECK(summary.tasks == 3);
  CHECK(summary.counted == 2);
  CHECK(summary.exact == -2);
  CHECK(summary.restored == -2.5);
  CHECK(summary.without == -3.75);
  CHECK(summary.relative_difference == -0.25);
  CHECK(summary.benefit == doctest::Approx(1.25 / 1.75));
  CHECK(summary.worst_difference == -1);
  CHECK(summary.difference.low < -0.5);
  CHECK(summary.difference.high > -0.5);
  CHECK(summary.match_exact == 0.5);
  CHECK(summary.match == 0);
  CHECK(summary.match_without == 0);

  TaskTotals strict(TaskRule{.least_gain = 4});
  strict.add({.exact = scored(-2), .restored = scored(-4), .without = scored(-8)});
  CHECK(strict.summary().counted == 0);
  CHECK(strict.summary().exact == 0);
}

TEST_CASE("scores that cannot be") {
  const Row logits = {1, 2, 3};
  CHECK_THROWS_AS(static_cast<void>(score_answer(logits, {})), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(score_answer({}, Tokens{1})), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(score_answer(logits, Tokens{1, 0})), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(score_answer(logits, Tokens{3})), PreconditionError);
  TaskTotals totals;
  CHECK_THROWS_AS(totals.add({.exact = scored(-1, false, 1), .restored = scored(-1), .without = scored(-1)}),
                  PreconditionError);
  CHECK_THROWS_AS(totals.add({}), PreconditionError);
}

}  // namespace
