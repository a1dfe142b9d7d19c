#include "krul/backend/mean_divergence.hpp"

#include <doctest/doctest.h>

using namespace krul;

TEST_CASE("the mean divergence is that of the rows") {
  const std::vector<float> exact = {0, 1, 2, 3, 1, 0}, candidate = {1, 1, 2, 0, 1, 0};
  const auto row = [](const std::vector<float>& logits, std::size_t at) {
    return NextToken(std::span(logits).subspan(at * 3, 3));
  };
  const double expected =
      (row(exact, 0).divergence_from(row(candidate, 0)) + row(exact, 1).divergence_from(row(candidate, 1))) / 2;
  for (const std::size_t threads : {1, 3}) {
    Workers workers(threads);
    CHECK(mean_divergence(exact, candidate, 3, workers) == expected);
    CHECK(mean_divergence(exact, exact, 3, workers) == 0);
    CHECK_THROWS_AS((void)mean_divergence(exact, std::span(candidate).first(3), 3, workers), PreconditionError);
    CHECK_THROWS_AS((void)mean_divergence(exact, candidate, 4, workers), PreconditionError);
    CHECK_THROWS_AS((void)mean_divergence(exact, candidate, 0, workers), PreconditionError);
    CHECK_THROWS_AS((void)mean_divergence({}, {}, 3, workers), PreconditionError);
  }
}
