#include "krul/simulate/shared_layers.hpp"
#include "krul/restore/predict.hpp"

#include <doctest/doctest.h>

#include <random>

#include "krul/simulate/strategies.hpp"

using namespace krul;
using namespace krul::simulate;

namespace {

/// p_l = N 2r (1 - l / (L - 1)), in tokens and not rounded.
std::vector<double> linear_prefix(std::size_t layers, double ratio, double history) {
  std::vector<double> prefix(layers);
  for (std::size_t layer = 0; layer < layers; ++layer)
    prefix[layer] = history * 2 * ratio * (1 - static_cast<double>(layer) / static_cast<double>(layers - 1));
  return prefix;
}

/// Twin of stored_bytes: every row by itself.
double slow_stored_bytes(const std::vector<std::size_t>& prefix, const std::vector<LayerPair>& pairs,
                         std::size_t history, const RowBytes& row) {
  double bytes = 0;
  for (std::size_t layer = 0; layer < prefix.size(); ++layer)
    for (std::size_t token = prefix[layer]; token < history; ++token) {
      double own = row.own;
      for (const LayerPair& pair : pairs) {
        if (token < prefix[pair.shallow] || token < prefix[pair.deep]) continue;
        if (pair.shallow == layer) own = row.merged;
        if (pair.deep == layer) own = 0;
      }
      bytes += own;
    }
  return bytes;
}

}  // namespace

TEST_CASE("L/4 pairs: neighbours in the deep half, and distant ones") {
  CHECK(adjacent_pairs(32).size() == 8);
  CHECK(adjacent_pairs(32).front() == LayerPair{16, 17});
  CHECK(adjacent_pairs(32).back() == LayerPair{30, 31});
  CHECK(distant_pairs(32).front() == LayerPair{8, 20});
  CHECK(distant_pairs(32).back() == LayerPair{15, 27});
  CHECK(adjacent_pairs(60).size() == 15);
  CHECK(adjacent_pairs(80).size() == 20);
  for (const std::size_t layers : {1, 2, 3, 4, 7, 24, 30, 60, 80}) {
    CHECK(adjacent_pairs(layers).size() == layers / 4);
    CHECK(distant_pairs(layers).size() == layers / 4);
    CHECK_NOTHROW(expects_disjoint(adjacent_pairs(layers), layers));
    if (layers >= 8) CHECK_NOTHROW(expects_disjoint(distant_pairs(layers), layers));
  }
}

TEST_CASE("stored shares of 32 layers and a mean share of 0.43 recomputed") {
  const auto pyramid = linear_prefix(32, 0.43, 1);
  const std::vector<double> uniform(32, 0.43);
  const RowBytes row{1. / 32, 1. / 32};
  CHECK(stored_bytes(pyramid, adjacent_pairs(32), 1, row) == doctest::Approx(0.375).epsilon(0.002));
  CHECK(stored_bytes(pyramid, distant_pairs(32), 1, row) == doctest::Approx(0.455).epsilon(0.002));
  CHECK(stored_bytes(uniform, adjacent_pairs(32), 1, row) == doctest::Approx(0.428).epsilon(0.002));
  CHECK(stored_bytes(pyramid, {}, 1, row) == doctest::Approx(0.57));
}

TEST_CASE("c = 0.75 and a uniform share of 0.43 give the published ratios of bytes") {
  const std::vector<double> uniform(32, 0.43), none(32, 0);
  const RowBytes row{1. / 32, 1. / 32};
  const double krul = stored_bytes(uniform, adjacent_pairs(32), 1, row);
  CHECK(stored_bytes(none, {}, 1, row) / krul == doctest::Approx(2.34).epsilon(0.003));                   // paper: 2.35
  CHECK(stored_bytes(none, adjacent_pairs(32), 1, row) / krul == doctest::Approx(1.754).epsilon(0.003));  // paper: 1.75
  CHECK(stored_bytes(uniform, {}, 1, row) / krul == doctest::Approx(1.333).epsilon(0.003));               // paper: 1.33
}

TEST_CASE("the closed form, the slow twin and the planner's sizes agree") {
  std::mt19937_64 random(1);
  for (int i = 0; i < 200; ++i) {
    ModelShape shape = *model_shape("smollm2-135m");
    shape.layers = 8 + random() % 24;
    Scene scene{.shape = shape,
                .costs = {},
                .merge_row_s = 0,
                .int8 = {},
                .strong = {},
                .strongest = {},
                .history = 16 * (1 + random() % 20),
                .prompt = 1,
                .block = 16};
    const auto pairs = random() % 2 ? adjacent_pairs(shape.layers) : distant_pairs(shape.layers);
    const RowBytes row{96, 128};
    const RestoreSizes sizes = scene_sizes(scene, row, pairs);
    const auto plan = RestorationScheduler(Pyramid(static_cast<double>(random() % 100) / 100)).plan(sizes, {});
    const double slow = slow_stored_bytes(plan.prefix, pairs, scene.history, row);
    // Whole numbers below 2^53: all three are exact.
    REQUIRE(stored_bytes(std::vector<double>(plan.prefix.begin(), plan.prefix.end()), pairs,
                         static_cast<double>(scene.history), row) == slow);
    REQUIRE(static_cast<double>(predict(plan, sizes, {}).bytes) == slow);
  }
}

TEST_CASE("pairs that cannot be are the caller's mistake") {
  const std::vector<double> prefix = {2, 1, 0, 0}, rising = {0, 1, 1, 1};
  const auto stored = [](const std::vector<double>& fronts, const std::vector<LayerPair>& pairs) {
    return stored_bytes(fronts, pairs, 4, {1, 1});
  };
  CHECK_NOTHROW(static_cast<void>(stored(prefix, {{0, 1}})));
  CHECK_THROWS_AS(static_cast<void>(stored(prefix, {{1, 0}})), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(stored(prefix, {{3, 4}})), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(stored(prefix, {{0, 1}, {1, 2}})), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(stored(rising, {{0, 1}})), PreconditionError);
}
