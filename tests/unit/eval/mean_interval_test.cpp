#include "krul/eval/mean_interval.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <vector>

namespace {
using namespace krul::eval;
using krul::PreconditionError;
using Values = std::vector<double>;

/// P(|T| <= t), by Simpson's rule over the density with 20,000 steps.
double probability_below(std::size_t degrees, double t) {
  const auto freedom = static_cast<double>(degrees);
  const double scale =
      std::exp(std::lgamma((freedom + 1) / 2) - std::lgamma(freedom / 2)) / std::sqrt(freedom * std::numbers::pi);
  const auto density = [&](double x) { return scale * std::pow(1 + x * x / freedom, -(freedom + 1) / 2); };
  const int steps = 20000;
  const double step = t / steps;
  double sum = density(0) + density(t);
  for (int i = 1; i < steps; ++i) sum += (i % 2 == 1 ? 4 : 2) * density(i * step);
  return 2 * sum * step / 3;
}

TEST_CASE("Student's t is the textbook's, and undone by its own density") {
  CHECK(student_t(1, 0.95) == doctest::Approx(12.7062).epsilon(1e-5));
  CHECK(student_t(2, 0.95) == doctest::Approx(4.30265).epsilon(1e-5));
  CHECK(student_t(10, 0.95) == doctest::Approx(2.22814).epsilon(1e-5));
  CHECK(student_t(1, 0.5) == doctest::Approx(1).epsilon(1e-12));
  for (const std::size_t degrees : {1UL, 2UL, 3UL, 4UL, 5UL, 6UL, 19UL, 20UL, 99UL, 1000UL})
    for (const double coverage : {0.05, 0.5, 0.95}) {
      CAPTURE(degrees);
      CAPTURE(coverage);
      // Simpson's error is below t^5 max|f''''| / (180 steps^4): about 1e-12 for t < 13, where the density is smooth.
      // lgamma of 500 is near 2,600 and good to 1e-16 of that: 3e-13 in the scale.
      CHECK(probability_below(degrees, student_t(degrees, coverage)) == doctest::Approx(coverage).epsilon(1e-10));
    }
}

TEST_CASE("the interval of a mean, by hand") {
  // s = 1, n = 3: half of the width is t_2 / sqrt(3).
  const auto found = mean_interval(Values{4, 5, 6});
  CHECK(found.low == doctest::Approx(5 - 4.30265 / std::sqrt(3.0)).epsilon(1e-5));
  CHECK(found.high == doctest::Approx(5 + 4.30265 / std::sqrt(3.0)).epsilon(1e-5));
  CHECK(found.coverage == 0.95);
  CHECK(mean_interval(Values{2, 2, 2}) == Interval{2, 2, 0.95});
  CHECK(mean_interval(Values{4, 5, 6}, 0.5).high < found.high);
}

TEST_CASE("nothing is known from one value, or from an infinite one") {
  const double infinite = std::numeric_limits<double>::infinity();
  CHECK(mean_interval(Values{3}) == Interval{-infinite, infinite, 0.95});
  CHECK(mean_interval(Values{3, infinite}) == Interval{-infinite, infinite, 0.95});
}

TEST_CASE("what cannot be asked") {
  CHECK_THROWS_AS(static_cast<void>(student_t(0, 0.95)), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(student_t(1, 0)), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(student_t(1, 1)), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(mean_interval({})), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(mean_interval(Values{1, std::numeric_limits<double>::quiet_NaN()})),
                  PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(mean_interval(Values{1, 2}, 1)), PreconditionError);
}

}  // namespace
