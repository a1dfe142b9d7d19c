#include "krul/eval/observe_bench.hpp"

#include <doctest/doctest.h>

#include "support/ticking_clock.hpp"
#include "support/toy_conversation.hpp"

using namespace krul;
using namespace krul::eval;
using krul::test::TickingClock;
using krul::test::toy_tokens;

namespace {

/// A machine on which nobody else works.
struct IdleMachine {
  [[nodiscard]] Result<LoadSample> sample() { return LoadSample{}; }
};

}  // namespace

TEST_CASE("metrics are named by their kind and the share of rows") {
  const auto metric = ObservedMetric::named("sketch/16");
  REQUIRE(metric);
  CHECK(metric->name == "sketch/16");
  CHECK_FALSE(metric->exact);
  CHECK(metric->every == 16);
  CHECK(ObservedMetric::named("exact")->every == 1);
  const auto several = ObservedMetric::all_named("exact,sketch/4");
  REQUIRE(several);
  REQUIRE(several->size() == 2);
  CHECK(several->back().every == 4);
  CHECK_FALSE(ObservedMetric::all_named("exact,nothing"));
  for (const char* name :
       {"", "exakt", "exact/", "exact/0", "exact/x", "exact/1.5", "/4", "exact/99999999999999999999"}) {
    CAPTURE(name);
    const auto refused = ObservedMetric::named(name);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == ErrorCode::invalid_argument);
  }
}

TEST_CASE("agreement: by rank, and relative") {
  AttentionStatistics exact(3, 1), estimated(3, 1);
  const auto set = [](AttentionStatistics& statistics, double a, double b, double c) {
    statistics.squared = {0, a * a, b * b, a * a, 0, c * c, b * b, c * c, 0};
  };
  set(exact, 1, 2, 4);
  set(estimated, 1.1, 1.8, 4);
  CHECK(pair_distances(exact) == std::vector<double>{1, 2, 4});
  CHECK(agreement(exact, exact).correlation == 1);
  CHECK(agreement(exact, exact).error == 0);
  CHECK(agreement(estimated, exact).correlation == 1);
  CHECK(agreement(estimated, exact).error == doctest::Approx(0.2 / 3));
  set(estimated, 4, 2, 1);
  CHECK(agreement(estimated, exact).correlation == doctest::Approx(-1));
}

TEST_CASE("observing is measured on a backend of anybody's") {
  toy::Backend model;
  const std::vector<ObservedMetric> metrics = {
      {.name = "exact"}, {.name = "exact/4", .every = 4}, {.name = "sketch", .exact = false}};
  ObserveBench<toy::Backend, TickingClock, TickingClock> bench(model, {.metrics = metrics, .decoded = 8});
  const auto text = toy_tokens(200);
  bench.compare_on(text);
  bench.compare_on(toy_tokens(150, 9));
  const auto ways = bench.alternatives(text);
  REQUIRE(ways.size() == 5 + metrics.size());
  CHECK(ways.front().name == "unobserved");
  CHECK(ways.back().name == "sketch");

  PairedRounds rounds(TickingClock{}, IdleMachine{}, {.clean_rounds = 2, .most_rounds = 2, .least_round_s = 0});
  const auto report = rounds.run<ObservedTimes>(ways);
  REQUIRE(report);
  const auto costs = bench.costs(*report);
  REQUIRE(costs.size() == ways.size());
  for (std::size_t i = 0; i < costs.size(); ++i) {
    CAPTURE(costs[i].name);
    CHECK(costs[i].name == ways[i].name);
    // By a clock that counts how often it is looked at: every way the same.
    CHECK(costs[i].times.prefill_s == doctest::Approx(1e-6));
    CHECK(costs[i].times.step_s == doctest::Approx(1e-6 / 8));
    CHECK(costs[i].added_core_s == doctest::Approx(0));
    CHECK(costs[i].prefill_ratio == doctest::Approx(1));
    CHECK(costs[i].agreement.has_value() == (i >= 5));
  }
  // What nothing is left out of is the reference itself, but for keys that all get next to nothing.
  CHECK(costs[5].agreement->correlation > 0.999);
  CHECK(costs[5].agreement->error < 1e-3);
  CHECK(costs[6].agreement->error > costs[5].agreement->error);
  CHECK(costs[5].bytes > 0);

  CHECK_THROWS_AS(bench.compare_on(toy_tokens(8)), PreconditionError);
}

TEST_CASE("a model whose pairs of layers have no order is refused") {
  toy::Backend model(
      {.layers = 2, .query_heads = 4, .kv_heads = 2, .head_dim = 8, .hidden = 32, .vocabulary = 64, .context = 512});
  using Bench = ObserveBench<toy::Backend>;
  CHECK_THROWS_AS(Bench(model, {}), PreconditionError);
}
