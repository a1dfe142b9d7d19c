#include "krul/eval/quality.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>

#include "krul/reference/quality.hpp"

namespace {
using namespace krul::eval;
using krul::NextToken;
using krul::PreconditionError;
using krul::Token;
using Row = std::vector<float>;

Row random_row(std::mt19937& random, std::size_t vocabulary, float spread) {
  std::normal_distribution<float> logit(0, spread);
  Row row(vocabulary);
  for (auto& value : row) value = logit(random);
  return row;
}

/// Largest rounding error of a sum of V terms, each bounded by `largest` after weighting with probabilities that add up
/// to 1, plus the handful of operations per term and the two logarithms: (V + 16) units of 2^-53 times the magnitude.
double rounding(std::size_t vocabulary, double largest) {
  return static_cast<double>(vocabulary + 16) * 0x1p-53 * std::max(1.0, largest);
}

double range(const Row& row) {
  const auto [low, high] = std::minmax_element(row.begin(), row.end());
  return static_cast<double>(*high) - static_cast<double>(*low);
}

TEST_CASE("the fast exponential agrees with the library's over its whole range") {
  for (double x = 0; x > -707; x -= 0.0371) {
    CAPTURE(x);
    // 2^-51: half a unit for each of the last steps of the polynomial and its scaling.
    CHECK(std::abs(krul::detail::exp_of_negative(x) - std::exp(x)) <= 0x1p-51 * std::exp(x));
  }
  CHECK(krul::detail::exp_of_negative(0) == 1);
  CHECK(krul::detail::exp_of_negative(-1e30) == krul::detail::exp_of_negative(-708));
  CHECK(krul::detail::exp_of_negative(-708) < 1e-300);
}

TEST_CASE("log-probabilities and divergence agree with the reference, in all sizes around the lanes") {
  std::mt19937 random(7);
  for (const std::size_t vocabulary : {1UL, 2UL, 7UL, 8UL, 9UL, 31UL, 1000UL, 49152UL})
    for (const float spread : {0.01F, 1.0F, 8.0F, 200.0F}) {
      CAPTURE(vocabulary);
      CAPTURE(spread);
      const Row exact = random_row(random, vocabulary, spread);
      Row other = exact;
      for (auto& value : other) value += 0.1F * spread * std::uniform_real_distribution<float>(-1, 1)(random);
      const double bound = rounding(vocabulary, range(exact) + range(other));
      const NextToken left(exact);
      const NextToken right(other);
      const auto expected = krul::reference::log_softmax(exact);
      double total = 0;
      for (std::size_t token = 0; token < vocabulary; ++token) {
        const double found = left.log_probability(static_cast<Token>(token));
        if (std::abs(found - expected[token]) > bound) CHECK(found == expected[token]);
        total += std::exp(found);
      }
      CHECK(std::abs(total - 1) <= bound);
      CHECK(std::abs(left.divergence_from(right) - krul::reference::kl_divergence(exact, other)) <= bound);
      CHECK(left.divergence_from(right) >= 0);
      CHECK(left.divergence_from(left) <= bound);
    }
}

TEST_CASE("adding one number to all logits changes nothing") {
  std::mt19937 random(3);
  std::uniform_int_distribution<int> eighths(-80, 80);
  Row exact(5000), other(5000), shifted(5000);
  // Multiples of 1/8 stay exact in float when 64 is added, so only the order of nothing changes: equal to the last bit.
  for (std::size_t i = 0; i < exact.size(); ++i) {
    exact[i] = static_cast<float>(eighths(random)) / 8;
    other[i] = static_cast<float>(eighths(random)) / 8;
    shifted[i] = other[i] + 64;
  }
  const NextToken reference(exact), candidate(other), moved(shifted);
  CHECK(reference.divergence_from(candidate) == reference.divergence_from(moved));
  CHECK(candidate.log_probability(17) == moved.log_probability(17));
  CHECK(candidate.top() == moved.top());
  CHECK(candidate.divergence_from(moved) == 0);
}

TEST_CASE("two tokens, by hand") {
  const Row even = {1, 1};
  const Row odd = {std::log(3.0F), 0};  // probabilities 3/4 and 1/4
  const auto token = compare(NextToken(even), NextToken(odd), 1);
  CHECK(token.kl == doctest::Approx(0.5 * std::log(2.0 / 3) + 0.5 * std::log(2.0)));
  CHECK(token.nll == doctest::Approx(std::log(4.0)));
  CHECK(token.nll_exact == doctest::Approx(std::log(2.0)));
  CHECK(token.same_top);
  CHECK(NextToken(even).top() == 0);  // the first of equals
  const Row other = {0, 1};
  CHECK_FALSE(compare(NextToken(odd), NextToken(other), 0).same_top);
}

TEST_CASE("a broken candidate is infinitely bad, a broken reference is a mistake") {
  const Row good = {1, 2, 3};
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    const Row broken = {1, bad, 3};
    const NextToken exact(good), candidate(broken);
    CHECK_FALSE(candidate.finite());
    const auto token = compare(exact, candidate, 2);
    CHECK(std::isinf(token.kl));
    CHECK(std::isinf(token.nll));
    CHECK_FALSE(token.same_top);
    CHECK_THROWS_AS(static_cast<void>(compare(candidate, exact, 2)), PreconditionError);
    QualityTotals totals;
    totals.add(std::vector{token, token});
    CHECK(std::isinf(totals.summary().kl_p95));
  }
  const Row shorter = {1, 2};
  CHECK_THROWS_AS(static_cast<void>(NextToken(good).divergence_from(NextToken(shorter))), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(NextToken(good).log_probability(3)), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(NextToken(good).log_probability(-1)), PreconditionError);
  CHECK_THROWS_AS(NextToken(std::span<const float>{}), PreconditionError);
}

TEST_CASE("totals over conversations, by hand") {
  QualityTotals totals;
  CHECK_THROWS_AS(static_cast<void>(totals.summary()), PreconditionError);
  CHECK_THROWS_AS(totals.add({}), PreconditionError);
  totals.add(std::vector<TokenQuality>{{0.1, 2.0, 1.0, true, 4.0}, {0.3, 3.0, 3.0, false, 4.0}});
  totals.add(std::vector<TokenQuality>{{0.25, 1.0, 1.0, true, 2.0}});
  const auto summary = totals.summary();
  CHECK(summary.conversations == 2);
  CHECK(summary.tokens == 3);
  CHECK(summary.delta_nll == doctest::Approx(1.0 / 3));
  CHECK(summary.kl == doctest::Approx(0.65 / 3));
  CHECK(summary.kl_p95 == doctest::Approx(0.25 + 0.9 * 0.05));
  CHECK(summary.kl_worst == doctest::Approx(0.25));
  CHECK(totals.conversation_means().size() == 2);  // 0.2 and 0.25
  CHECK(summary.kl_quartiles[0] == doctest::Approx(0.2125));
  CHECK(summary.kl_quartiles[1] == doctest::Approx(0.225));
  CHECK(summary.kl_quartiles[2] == doctest::Approx(0.2375));
  // s = 0.05 / sqrt(2), n = 2, t_1 = 12.706.
  CHECK(summary.kl_interval.high - summary.kl_interval.low == doctest::Approx(12.7062 * 0.05).epsilon(1e-5));
  CHECK(summary.top1 == doctest::Approx(2.0 / 3));
  CHECK(summary.history_benefit.value() == doctest::Approx((10.0 - 6.0) / (10.0 - 5.0)));

  totals.add(std::vector<TokenQuality>{{0.25, 1.0, 1.0, true, std::nullopt}});
  CHECK_FALSE(totals.summary().history_benefit.has_value());
  QualityTotals useless;
  useless.add(std::vector<TokenQuality>{{0.0, 1.0, 1.0, true, 1.0}});
  CHECK_FALSE(useless.summary().history_benefit.has_value());
}

TEST_CASE("first difference of two texts") {
  using Text = std::vector<Token>;
  CHECK(first_difference(Text{1, 2, 3}, Text{1, 2, 3}) == std::nullopt);
  CHECK(first_difference(Text{1, 2, 3}, Text{1, 9, 3}) == 1);
  CHECK(first_difference(Text{1, 2}, Text{1, 2, 3}) == 2);
  CHECK(first_difference(Text{}, Text{}) == std::nullopt);
  CHECK(first_difference(Text{4}, Text{}) == 0);
}

}  // namespace
