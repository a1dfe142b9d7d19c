#include "krul/calibrate/moments.hpp"

#include <doctest/doctest.h>

#include <random>

#include "krul/core/error.hpp"
#include "support/levels.hpp"
#include "support/profile_samples.hpp"

using namespace krul;

TEST_CASE("moments of groups against sums in double") {
  const Geometry geometry = krul::testing::profile_geometry();
  const std::size_t width = geometry.kv_values(), layers = geometry.layers, features = 6, tokens = 90;
  const std::vector<std::size_t> sizes{1, 2};
  for (const auto& processor : krul::testing::processors_by_level()) {
    KvMoments moments(geometry, features, sizes, processor.level());
    REQUIRE(moments.groups().size() == 3);
    CHECK(moments.groups()[2] == std::pair<std::size_t, std::size_t>{3, 1});
    CHECK_THROWS_AS((void)moments.keys(0), PreconditionError);
    Workers workers(2);
    std::mt19937_64 random(1);
    std::normal_distribution<float> normal(2, 1);
    std::vector<float> keys(tokens * layers * width), values(keys.size()), given(tokens * features);
    for (auto* list : {&keys, &values, &given})
      for (float& value : *list) value = normal(random);
    for (std::size_t begin = 0; begin < tokens; begin += 30)
      moments.add(std::span(keys).subspan(begin * layers * width, 30 * layers * width),
                  std::span(values).subspan(begin * layers * width, 30 * layers * width),
                  std::span(given).subspan(begin * features, 30 * features), workers);
    CHECK(moments.tokens() == tokens);
    CHECK_THROWS_AS(moments.add(keys, values, {}, workers), PreconditionError);

    const auto sums = moments.values(1);  // layers 1 and 2
    const std::size_t n = 2 * width;
    const auto x = [&](std::size_t token, std::size_t i) { return double{values[(token * layers + 1) * width + i]}; };
    const auto f = [&](std::size_t token, std::size_t i) { return double{given[token * features + i]}; };
    const auto mean_of = [&](auto&& of, std::size_t i) {
      double sum = 0;
      for (std::size_t token = 0; token < tokens; ++token) sum += of(token, i);
      return sum / static_cast<double>(tokens);
    };
    const auto covariance = [&](auto&& a, std::size_t i, auto&& b, std::size_t j) {
      double sum = 0;
      const double mean_a = mean_of(a, i), mean_b = mean_of(b, j);
      for (std::size_t token = 0; token < tokens; ++token) sum += (a(token, i) - mean_a) * (b(token, j) - mean_b);
      return sum / static_cast<double>(tokens);
    };
    // Each value is a sum of 90 products of about 1, rounded to float after each: 90 * 2^-24 of their sizes.
    constexpr double slack = 1e-4;
    for (std::size_t i = 0; i < n; i += 5) {
      CHECK(std::abs(sums.mean[i] - mean_of(x, i)) < slack);
      for (std::size_t j = 0; j < n; j += 3)
        CHECK(std::abs(sums.covariance[i * n + j] - covariance(x, i, x, j)) < slack);
      for (std::size_t j = 0; j < features; ++j)
        CHECK(std::abs(sums.cross[i * features + j] - covariance(x, i, f, j)) < slack);
    }
    CHECK(std::abs(moments.feature_covariance()[1 * features + 4] - covariance(f, 1, f, 4)) < slack);
    CHECK(std::abs(moments.feature_mean()[2] - mean_of(f, 2)) < slack);
    CHECK_THROWS_AS(KvMoments(geometry, 0, std::vector<std::size_t>{0}), PreconditionError);
  }
}
