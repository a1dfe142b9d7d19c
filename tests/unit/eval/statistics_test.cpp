#include "krul/eval/statistics.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <random>

namespace {
using namespace krul::eval;
using krul::PreconditionError;
using Values = std::vector<double>;

TEST_CASE("mean, median and quantiles of pencil-sized lists") {
  CHECK(mean(Values{1, 2, 6}) == 3);
  CHECK(median(Values{5}) == 5);
  CHECK(median(Values{9, 1, 4}) == 4);
  CHECK(median(Values{8, 1, 4, 2}) == 3);
  CHECK(quantile(Values{10, 20, 30, 40, 50}, 0) == 10);
  CHECK(quantile(Values{10, 20, 30, 40, 50}, 1) == 50);
  CHECK(quantile(Values{50, 40, 30, 20, 10}, 0.25) == 20);
  CHECK(quantile(Values{10, 20}, 0.75) == 17.5);
  const double infinite = std::numeric_limits<double>::infinity();
  CHECK(quantile(Values{1, infinite, infinite}, 0.75) == infinite);
}

TEST_CASE("a spread: the median, and what 9 of 10 lie below") {
  const auto [median, p90] = Spread::of(Values{10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 0});
  CHECK(median == 50);
  CHECK(p90 == 90);
  CHECK_THROWS_AS(static_cast<void>(Spread::of(Values{})), PreconditionError);
}

TEST_CASE("the median's interval is that of the sign test") {
  // n = 7: [smallest, largest] misses the median if all lie on one side: 2 / 2^7.
  CHECK(median_interval(Values{7, 1, 6, 2, 5, 3, 4}) == Interval{1, 7, 1 - 2.0 / 128});
  // n = 6 still reaches 95 %, n = 5 does not and says so.
  CHECK(median_interval(Values{1, 2, 3, 4, 5, 6}).coverage == doctest::Approx(1 - 2.0 / 64));
  CHECK(median_interval(Values{1, 2, 3, 4, 5}) == Interval{1, 5, 1 - 2.0 / 32});
  // n = 9: the second smallest and largest, 1 - 2 (1 + 9) / 2^9 = 0.961.
  const auto nine = median_interval(Values{1, 2, 3, 4, 5, 6, 7, 8, 9});
  CHECK(nine.low == 2);
  CHECK(nine.high == 8);
  CHECK(nine.coverage == doctest::Approx(1 - 20.0 / 512));
  // n = 20: the textbook's ranks 6 and 15, 0.9586.
  Values twenty(20);
  std::iota(twenty.begin(), twenty.end(), 1.0);
  const auto found = median_interval(twenty);
  CHECK(found.low == 6);
  CHECK(found.high == 15);
  CHECK(found.coverage == doctest::Approx(0.9586).epsilon(1e-4));
  CHECK(median_interval(Values{3}) == Interval{3, 3, 0});
}

TEST_CASE("the interval covers the true median as often as it says") {
  std::mt19937 random(1);
  std::exponential_distribution<double> skewed(std::numbers::ln2);  // median 1
  int covered = 0;
  constexpr int runs = 4000;
  double promised = 0;
  for (int run = 0; run < runs; ++run) {
    Values values(11);
    for (auto& value : values) value = skewed(random);
    const auto interval = median_interval(values);
    covered += interval.low <= 1 && 1 <= interval.high;
    promised = interval.coverage;
    CHECK(interval.low <= median(values));
    CHECK(median(values) <= interval.high);
  }
  // Four standard deviations of a share estimated from `runs` draws.
  const double noise = 4 * std::sqrt(promised * (1 - promised) / runs);
  CHECK(promised >= 0.95);
  CHECK(std::abs(covered / static_cast<double>(runs) - promised) <= noise);
}

TEST_CASE("paired ratios compare round by round") {
  // A machine that slows down by a factor of ten in between does not matter.
  const auto ratio = paired_ratio(Values{2, 4, 20, 40, 20, 4, 2}, Values{1, 2, 10, 20, 10, 2, 1});
  CHECK(ratio.median == 2);
  CHECK(ratio.interval.low == 2);
  CHECK(ratio.interval.high == 2);
}

TEST_CASE("from five rounds no interval of 95 % can be had") {
  const Values six = {1, 2, 3, 4, 5, 6}, five = {1, 2, 3, 4, 5};
  CHECK(paired_ratio(six, six).has_interval());
  CHECK_FALSE(paired_ratio(five, five).has_interval());
}

TEST_CASE("rank correlation, by hand") {
  CHECK(ranks(Values{30, 10, 20, 10}) == Values{4, 1.5, 3, 1.5});
  CHECK(rank_correlation(Values{1, 2, 3, 4}, Values{1, 10, 100, 1000}) == doctest::Approx(1));
  CHECK(rank_correlation(Values{1, 2, 3, 4}, Values{4, 3, 2, 1}) == doctest::Approx(-1));
  // d = (0, 1, 1, 1, 1): 1 - 6 * 4 / (5 * 24) = 0.8
  CHECK(rank_correlation(Values{1, 2, 3, 4, 5}, Values{1, 3, 2, 5, 4}) == doctest::Approx(0.8));
  // Ties: ranks (1, 2.5, 2.5, 4) against (1, 2, 3, 4): 4.5 / sqrt(4.5 * 5)
  CHECK(rank_correlation(Values{1, 2, 2, 3}, Values{1, 2, 3, 4}) == doctest::Approx(4.5 / std::sqrt(22.5)));
  CHECK(rank_correlation(Values{1, 1, 1}, Values{1, 2, 3}) == 0);
}

TEST_CASE("mistakes in a call") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_AS(static_cast<void>(mean(Values{})), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(median(Values{})), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(quantile(Values{1, nan}, 0.5)), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(quantile(Values{1}, 1.5)), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(median_interval(Values{})), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(median_interval(Values{1}, 1)), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(paired_ratio(Values{1}, Values{1, 2})), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(paired_ratio(Values{1}, Values{0})), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(paired_ratio(Values{}, Values{})), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(rank_correlation(Values{1}, Values{1})), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(rank_correlation(Values{1, 2}, Values{1})), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(rank_correlation(Values{1, nan}, Values{1, 2})), PreconditionError);
}

}  // namespace
