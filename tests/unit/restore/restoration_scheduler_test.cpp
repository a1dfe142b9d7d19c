#include "krul/restore/restoration_scheduler.hpp"
#include "krul/restore/predict.hpp"

#include <doctest/doctest.h>

#include <limits>

#include "krul/restore/cautious.hpp"
#include "support/restore_samples.hpp"

using namespace krul;
using namespace krul::testing;

namespace {

/// What a user may write: proposes anything.
struct Proposal {
  std::vector<std::size_t> tokens;
  std::vector<std::size_t> prefix(const RestoreSizes&, const Costs&) const { return tokens; }
};
static_assert(RestorePolicy<Proposal>);
static_assert(!RestorePolicy<int>);

double first_token_s(const RestoreSizes& sizes, const Costs& costs, auto policy) {
  return predict(RestorationScheduler(policy).plan(sizes, costs), sizes, costs).first_token_s;
}

}  // namespace

TEST_CASE("the default plan is never predicted slower than recomputing or loading everything") {
  std::mt19937_64 random(8);
  for (int i = 0; i < 5000; ++i) {
    const RestoreSizes sizes = random_sizes(random);
    const Costs costs = random_costs(random);
    const double planned = predict(RestorationScheduler<>().plan(sizes, costs), sizes, costs).first_token_s;
    REQUIRE(planned <= first_token_s(sizes, costs, FullRecompute{}));
    REQUIRE(planned <= first_token_s(sizes, costs, FullLoad{}));
  }
}

TEST_CASE("a cautious plan is the best where computing takes longer than was measured") {
  std::mt19937_64 random(9);
  for (int i = 0; i < 2000; ++i) {
    const RestoreSizes sizes = random_sizes(random);
    const Costs costs = random_costs(random);
    const Cautious<Optimal> cautious;
    const Costs higher = cautious.cautious(costs);
    const double planned = first_token_s(sizes, higher, Proposal{cautious.prefix(sizes, costs)});
    REQUIRE(planned <= first_token_s(sizes, higher, FullRecompute{}));
    REQUIRE(planned <= first_token_s(sizes, higher, FullLoad{}));
    REQUIRE(planned <= first_token_s(sizes, higher, UniformSplit{}));
    REQUIRE(planned <= first_token_s(sizes, higher, Pyramid{}));
    REQUIRE(Cautious(Optimal{}, 1).prefix(sizes, costs) == Optimal{}.prefix(sizes, costs));
  }
}

TEST_CASE("the default plan gets no later on a faster link") {
  const RestoreSizes sizes = realistic_sizes(2000);
  double before = std::numeric_limits<double>::infinity();
  for (double rate = 1e6; rate < 1e11; rate *= 1.5) {
    const double now = first_token_s(sizes, realistic_costs(rate), DefaultPolicy{});
    CHECK(now <= before);
    before = now;
  }
}

TEST_CASE("the default plan loads over a fast link, recomputes over a hopeless one, mixes in between") {
  const RestoreSizes sizes = realistic_sizes(2000);
  const RestorationScheduler<> scheduler;
  Costs instant = realistic_costs(1e15);
  instant.link.latency_s = instant.link.core_s_per_byte = instant.layer.decode_row_s = 0;
  CHECK(scheduler.plan(sizes, instant).prefix == std::vector<std::size_t>(30, 0));
  CHECK(scheduler.plan(sizes, realistic_costs(1e3)).prefix == std::vector<std::size_t>(30, 2000));
  const auto prefix = scheduler.plan(sizes, realistic_costs(2e7)).prefix;
  CHECK(prefix.front() > 0);
  CHECK(prefix.back() < 2000);
}

TEST_CASE("a plan is what the sizes say, cut down to the invariant, and the same each time") {
  RestoreSizes sizes = realistic_sizes(200, 7);
  sizes.layers.resize(3);
  const RestorationScheduler scheduler(Proposal{{500, 150, 180}});
  const RestorePlan plan = scheduler.plan(sizes, {});
  CHECK(plan == RestorePlan{200, 7, 64, {200, 128, 128}});
  CHECK(scheduler.plan(sizes, {}) == plan);
  CHECK(scheduler.policy().tokens.size() == 3);
  std::mt19937_64 random(9);
  for (int i = 0; i < 100; ++i) {
    const RestoreSizes some = random_sizes(random);
    const Costs costs = random_costs(random);
    REQUIRE(RestorationScheduler<>().plan(some, costs) == RestorationScheduler<>().plan(some, costs));
  }
}

TEST_CASE("a conversation without a history is planned too") {
  const RestorePlan plan = RestorationScheduler<>().plan(realistic_sizes(0), realistic_costs(1e9));
  CHECK(plan.prefix == std::vector<std::size_t>(30, 0));
}

TEST_CASE("what cannot be planned is the caller's mistake, whatever the policy") {
  const RestoreSizes sizes = realistic_sizes(1000);
  const RestorationScheduler scheduler(FullLoad{});
  const auto refuses = [&](auto&& spoil) {
    RestoreSizes bad_sizes = sizes;
    Costs bad_costs = realistic_costs(1e9);
    spoil(bad_sizes, bad_costs);
    CHECK_THROWS_AS(static_cast<void>(scheduler.plan(bad_sizes, bad_costs)), PreconditionError);
  };
  refuses([](RestoreSizes&, Costs& c) { c.layer.project_row_s = std::nan(""); });
  refuses([](RestoreSizes&, Costs& c) { c.pass_s = std::numeric_limits<double>::infinity(); });
  refuses([](RestoreSizes&, Costs& c) { c.link.latency_s = -1; });
  refuses([](RestoreSizes&, Costs& c) { c.link.bytes_per_s = 0; });
  refuses([](RestoreSizes& s, Costs&) { s.prompt = 0; });
  refuses([](RestoreSizes& s, Costs&) { s.layers.clear(); });
  refuses([](RestoreSizes& s, Costs&) { s.block = 0; });
  refuses([](RestoreSizes& s, Costs&) { s.layers[0].block_bytes.clear(); });
  CHECK_THROWS_AS(static_cast<void>(RestorationScheduler(Proposal{{1, 2}}).plan(sizes, {})), PreconditionError);
}
