#include "krul/restore/cost_fit.hpp"

#include <doctest/doctest.h>

#include <array>
#include <limits>
#include <random>

#include "krul/reference/cost_fit.hpp"

using namespace krul;

namespace {

constexpr LayerCosts truth{.call_s = 6e-5,
                           .project_row_s = 2e-6,
                           .finish_row_s = 1e-5,
                           .attend_pair_s = 1e-8,
                           .attend_key_s = 3e-7,
                           .decode_row_s = 2e-8};

/// Samples of `truth`, each time off by up to `noise`, relative.
std::vector<LayerSample> samples(double noise) {
  std::mt19937_64 random(10);
  const auto off = [&] { return 1 + noise * (static_cast<double>(random() % 2001) / 1000 - 1); };
  std::vector<LayerSample> all;
  for (const double rows : {1, 8, 32, 128, 512, 1024})
    for (const double loaded : {0, 256, 2048}) {
      const double keys = loaded + rows, pairs = rows * loaded + rows * (rows + 1) / 2;
      all.push_back({.projected_rows = rows,
                     .finished_rows = rows,
                     .pairs = pairs,
                     .keys = keys,
                     .decoded_rows = loaded,
                     .project_s = (truth.call_s / 2 + rows * truth.project_row_s) * off(),
                     .attend_s = (pairs * truth.attend_pair_s + keys * truth.attend_key_s) * off(),
                     .finish_s = (truth.call_s / 2 + rows * truth.finish_row_s) * off(),
                     .decode_s = loaded * truth.decode_row_s * off()});
    }
  return all;
}

void check_close(const LayerCosts& costs, double relative) {
  CHECK(costs.call_s == doctest::Approx(truth.call_s).epsilon(relative));
  CHECK(costs.project_row_s == doctest::Approx(truth.project_row_s).epsilon(relative));
  CHECK(costs.finish_row_s == doctest::Approx(truth.finish_row_s).epsilon(relative));
  CHECK(costs.attend_pair_s == doctest::Approx(truth.attend_pair_s).epsilon(relative));
  CHECK(costs.attend_key_s == doctest::Approx(truth.attend_key_s).epsilon(relative));
  CHECK(costs.decode_row_s == doctest::Approx(truth.decode_row_s).epsilon(relative));
}

}  // namespace

TEST_CASE("costs are recovered from samples without noise") {
  check_close(fit_layer_costs(samples(0)),
              1e-9);  // normal equations: the square of a condition below 10^3, times 2^-53
}

TEST_CASE("costs are recovered from noisy samples within the noise") {
  check_close(fit_layer_costs(samples(0.05)), 0.05);
}

TEST_CASE("weights are never worse than their twin's, nor negative") {
  std::mt19937_64 random(11);
  const auto uniform = [&] { return static_cast<double>(random() % 1000 + 1) / 1000; };
  for (int i = 0; i < 100; ++i) {
    // Sums whose true weights may be negative, so that the bounds matter.
    const double true_weights[] = {2 * uniform() - 1, 2 * uniform() - 1, 2 * uniform() - 1};
    std::vector<std::array<double, 3>> x;
    std::vector<double> y;
    for (int n = 0; n < 1 + i % 8; ++n) {
      x.push_back({1, 3 * uniform(), i % 3 == 0 ? 0 : 100 * uniform()});
      double value = 0.1 * uniform();
      for (std::size_t column = 0; column < 3; ++column) value += true_weights[column] * x.back()[column];
      y.push_back(std::abs(value) + 0.01);
    }
    const std::span<const std::array<double, 3>> columns(x);
    const auto weights = fit_sum<3>(columns, y), twin = reference::fit_sum<3>(columns, y, 3000);
    for (const double weight : weights) REQUIRE(weight >= 0);
    // Both sums are of n terms of order one, each computed to a few roundings; the twin only approaches the optimum.
    REQUIRE(reference::relative_squares<3>(weights, columns, y) <=
            reference::relative_squares<3>(twin, columns, y) + 1e-9);
  }
}

TEST_CASE("one sample, or many at the same place, still give a line that passes there") {
  const std::vector<double> x = {4, 4, 4}, y = {2, 2, 2};
  const Line line = fit_line(x, y);
  CHECK(line.constant + 4 * line.slope == doctest::Approx(2));
  const Line flat = fit_line(std::vector<double>{0, 0}, std::vector<double>{3, 3});
  CHECK(flat.constant == doctest::Approx(3));
  CHECK(flat.slope == 0);
}

TEST_CASE("samples that cannot be are the caller's mistake") {
  const std::vector<double> one = {1}, two = {1, 2}, none;
  const auto refuses = [](const std::vector<double>& x, const std::vector<double>& y) {
    CHECK_THROWS_AS(static_cast<void>(fit_line(x, y)), PreconditionError);
  };
  refuses(none, none);
  refuses(one, two);
  refuses({-1}, one);
  refuses({std::nan("")}, one);
  refuses(one, {0});
  refuses(one, {std::numeric_limits<double>::infinity()});
  CHECK_THROWS_AS(static_cast<void>(fit_layer_costs({})), PreconditionError);
  const LayerSample good{.projected_rows = 1,
                         .finished_rows = 1,
                         .pairs = 1,
                         .keys = 1,
                         .decoded_rows = 1,
                         .project_s = 1,
                         .attend_s = 1,
                         .finish_s = 1,
                         .decode_s = 1};
  CHECK_NOTHROW(static_cast<void>(fit_layer_costs({&good, 1})));
  for (const auto field :
       {&LayerSample::projected_rows, &LayerSample::finished_rows, &LayerSample::pairs, &LayerSample::keys,
        &LayerSample::project_s, &LayerSample::attend_s, &LayerSample::finish_s, &LayerSample::decode_s}) {
    LayerSample bad = good;
    bad.*field = 0;
    CHECK_THROWS_AS(static_cast<void>(fit_layer_costs({&bad, 1})), PreconditionError);
  }
  LayerSample nothing_loaded = good;
  nothing_loaded.decoded_rows = nothing_loaded.decode_s = 0;
  CHECK(fit_layer_costs({&nothing_loaded, 1}).decode_row_s == 0);
}
