// Each policy by itself: its family, its invariant, its search.
#include <doctest/doctest.h>

#include <numeric>

#include "krul/reference/plan.hpp"
#include "krul/restore/optimal.hpp"
#include "krul/restore/predict.hpp"
#include "support/restore_samples.hpp"

using namespace krul;
using namespace krul::testing;

namespace {

double first_token_s(const RestoreSizes& sizes, const Costs& costs, const std::vector<std::size_t>& prefix) {
  return predict(plan_of(sizes, prefix), sizes, costs).first_token_s;
}

}  // namespace

TEST_CASE("full recompute and full load are the two ends") {
  const RestoreSizes sizes = realistic_sizes(1000);
  CHECK(FullRecompute{}.prefix(sizes, {}) == std::vector<std::size_t>(30, 1000));
  CHECK(FullLoad{}.prefix(sizes, {}) == std::vector<std::size_t>(30, 0));
}

TEST_CASE("a share of the history is rounded to the nearest token and down to whole blocks") {
  const RestoreSizes sizes = realistic_sizes(1000);
  CHECK(share_of_history(sizes, 0) == 0);
  CHECK(share_of_history(sizes, 0.0634) == 0);
  CHECK(share_of_history(sizes, 0.0636) == 64);
  CHECK(share_of_history(sizes, 0.99) == 960);
  CHECK(share_of_history(sizes, 1) == 1000);
  CHECK(share_of_history(realistic_sizes(0), 0.5) == 0);
}

TEST_CASE("a proposal is cut down to what is admissible") {
  RestoreSizes sizes = realistic_sizes(200);
  sizes.layers.resize(5);
  CHECK(admissible(sizes, {999, 200, 199, 130, 140}) == std::vector<std::size_t>{200, 200, 192, 128, 128});
  CHECK(admissible(sizes, {10, 200, 200, 0, 64}) == std::vector<std::size_t>(5, 0));
  CHECK_THROWS_AS(static_cast<void>(admissible(sizes, {1, 2})), PreconditionError);
}

TEST_CASE("a uniform split has the same front everywhere") {
  const RestoreSizes sizes = realistic_sizes(1000);
  CHECK(UniformSplit(0).prefix(sizes, {}) == std::vector<std::size_t>(30, 0));
  CHECK(UniformSplit(0.5).prefix(sizes, {}) == std::vector<std::size_t>(30, 448));
  CHECK(UniformSplit(1).prefix(sizes, {}) == std::vector<std::size_t>(30, 1000));
  for (const double ratio : {-0.1, 1.1, std::nan("")}) CHECK_THROWS_AS(UniformSplit{ratio}, PreconditionError);
}

TEST_CASE("a pyramid falls linearly with depth") {
  RestoreSizes sizes = realistic_sizes(6400);
  sizes.layers.resize(5);
  using Prefix = std::vector<std::size_t>;
  CHECK(Pyramid(0).prefix(sizes, {}) == Prefix(5, 0));
  CHECK(Pyramid(0.25).prefix(sizes, {}) == Prefix{3200, 2368, 1600, 768, 0});  // 37.5 and 12.5 blocks, rounded down
  CHECK(Pyramid(0.5).prefix(sizes, {}) == Prefix{6400, 4800, 3200, 1600, 0});
  CHECK(Pyramid(0.75).prefix(sizes, {}) == Prefix{6400, 5568, 4800, 3968, 3200});
  CHECK(Pyramid(1).prefix(sizes, {}) == Prefix(5, 6400));
  sizes.layers.resize(1);
  CHECK(Pyramid(0.25).prefix(sizes, {}) == Prefix{1600});  // one layer: the mean itself
  for (const double ratio : {-0.1, 1.1, std::nan("")}) CHECK_THROWS_AS(Pyramid{ratio}, PreconditionError);
}

TEST_CASE("the mean share of a pyramid is its ratio, up to the rounding to blocks") {
  const RestoreSizes sizes = realistic_sizes(8000);
  for (const double ratio : {0.1, 0.3, 0.43, 0.5, 0.6, 0.9}) {
    const auto prefix = Pyramid(ratio).prefix(sizes, {});
    const double mean = static_cast<double>(std::accumulate(prefix.begin(), prefix.end(), std::size_t{0})) / 30 / 8000;
    CHECK(mean <= ratio + 0.5 / 8000);
    CHECK(mean >= ratio - 64.0 / 8000);
  }
}

TEST_CASE("every policy's proposal is admissible as it is, for any sizes and costs") {
  std::mt19937_64 random(4);
  for (int i = 0; i < 1000; ++i) {
    const RestoreSizes sizes = random_sizes(random);
    const Costs costs = random_costs(random);
    const double ratio = static_cast<double>(up_to(random, 100)) / 100;
    const std::vector<std::size_t> proposals[] = {FullRecompute{}.prefix(sizes, costs),
                                                  FullLoad{}.prefix(sizes, costs),
                                                  UniformSplit{}.prefix(sizes, costs),
                                                  UniformSplit(ratio).prefix(sizes, costs),
                                                  Pyramid{}.prefix(sizes, costs),
                                                  Pyramid(ratio).prefix(sizes, costs),
                                                  BestOf<FullLoad, UniformSplit>{}.prefix(sizes, costs),
                                                  Optimal{}.prefix(sizes, costs)};
    for (const auto& proposal : proposals) REQUIRE(admissible(sizes, proposal) == proposal);
  }
}

TEST_CASE("the search of a uniform split finds the best of its whole family") {
  std::mt19937_64 random(5);
  for (int i = 0; i < 1000; ++i) {
    const RestoreSizes sizes = random_sizes(random);
    const Costs costs = random_costs(random);
    double best = std::numeric_limits<double>::infinity();
    for (std::size_t tokens = 0; tokens <= sizes.history; ++tokens)
      if (tokens == sizes.history || tokens % sizes.block == 0)
        best = std::min(best, first_token_s(sizes, costs, std::vector<std::size_t>(sizes.layers.size(), tokens)));
    REQUIRE(first_token_s(sizes, costs, UniformSplit{}.prefix(sizes, costs)) == best);
  }
}

TEST_CASE("the search of a pyramid is at least as good as any fixed ratio of its grid, and as both ends") {
  std::mt19937_64 random(6);
  for (int i = 0; i < 1000; ++i) {
    const RestoreSizes sizes = random_sizes(random);
    const Costs costs = random_costs(random);
    const double best = first_token_s(sizes, costs, Pyramid{}.prefix(sizes, costs));
    for (std::size_t front = 0; front <= 2 * sizes.blocks() && sizes.history > 0; ++front) {
      const double ratio =
          std::min(static_cast<double>(front * sizes.block) / (2 * static_cast<double>(sizes.history)), 1.0);
      REQUIRE(best <= first_token_s(sizes, costs, Pyramid(ratio).prefix(sizes, costs)));
    }
  }
}

TEST_CASE("no policy beats an exhaustive search, and the best of several is the best of them") {
  std::mt19937_64 random(7);
  int found_optimum = 0, best_of_four = 0;
  for (int i = 0; i < 300; ++i) {
    const RestoreSizes sizes = random_sizes(random, {.layers = 4, .blocks = 4, .block = 8, .prompt = 4});
    const Costs costs = random_costs(random);
    double optimum = std::numeric_limits<double>::infinity();
    const Predictor predictor(sizes, costs);
    for (const auto& prefix : reference::all_prefixes(sizes))
      optimum = std::min(optimum, predictor(prefix).first_token_s);
    double best = std::numeric_limits<double>::infinity();
    for (const auto& prefix : {FullRecompute{}.prefix(sizes, costs), FullLoad{}.prefix(sizes, costs),
                               UniformSplit{}.prefix(sizes, costs), Pyramid{}.prefix(sizes, costs)})
      best = std::min(best, first_token_s(sizes, costs, prefix));
    REQUIRE(best >= optimum);
    using Best = BestOf<FullRecompute, FullLoad, UniformSplit, Pyramid>;
    REQUIRE(first_token_s(sizes, costs, Best{}.prefix(sizes, costs)) == best);
    const double found = first_token_s(sizes, costs, Optimal{}.prefix(sizes, costs));
    REQUIRE(found <= best);
    REQUIRE(found >= optimum);
    if (found <= optimum * (1 + 0x1p-40)) ++found_optimum;  // sums in another order
    if (best <= optimum * (1 + 0x1p-40)) ++best_of_four;
  }
  // Nothing promises the optimum; the search would be useless if it were not found far more often than by the four.
  CHECK(found_optimum > 270);
  CHECK(found_optimum > best_of_four);
}

TEST_CASE(
    "with a device, too, the optimal policy finds the optimum more often than the four, and little less elsewhere") {
  std::mt19937_64 random(9);
  int found_optimum = 0, best_of_four = 0, cases = 0;
  double ratios = 0;
  for (int i = 0; i < 600; ++i) {
    const RestoreSizes sizes = random_sizes(random, {.layers = 4, .blocks = 4, .block = 8, .prompt = 4});
    const Costs costs = i % 2 ? random_device_costs(random) : balanced_device_costs(random, sizes);
    double optimum = std::numeric_limits<double>::infinity();
    const Predictor predictor(sizes, costs);
    for (const auto& prefix : reference::all_prefixes(sizes))
      optimum = std::min(optimum, predictor(prefix).first_token_s);
    using Best = BestOf<FullRecompute, FullLoad, UniformSplit, Pyramid>;
    const double best = first_token_s(sizes, costs, Best{}.prefix(sizes, costs));
    const double found = first_token_s(sizes, costs, Optimal{}.prefix(sizes, costs));
    REQUIRE(found <= best);
    REQUIRE(found >= optimum);
    if (optimum <= 0) continue;
    ++cases;
    if (found <= optimum * (1 + 0x1p-40)) ++found_optimum;
    if (best <= optimum * (1 + 0x1p-40)) ++best_of_four;
    ratios += found / optimum;
  }
  // Nothing promises the optimum: sums that change twice are not weighed.
  CHECK(found_optimum > cases * 9 / 10);
  CHECK(found_optimum > best_of_four);
  CHECK(ratios < 1.005 * cases);
}

TEST_CASE("the optimal policy is never later than the four, whatever is shared or left out") {
  std::mt19937_64 random(8);
  for (int i = 0; i < 1000; ++i) {
    RestoreSizes sizes = random_sizes(random);
    const Costs costs = random_costs(random);
    for (std::size_t layer = 0; layer < sizes.layers.size(); ++layer) {
      StoredLayer& stored = sizes.layers[layer];
      stored.projected_share = random() % 8 == 0 ? 1 : 0;
      if (random() % 4 == 0) stored.unstored = std::min(up_to(random, sizes.blocks()) * sizes.block, sizes.history);
      if (layer == 0 || random() % 2) continue;
      for (std::size_t block = 0; block < sizes.blocks(); ++block)
        stored.shared_with.push_back(random() % 2 ? -1 : static_cast<std::int32_t>(up_to(random, layer - 1)));
    }
    const auto prefix = Optimal{}.prefix(sizes, costs);
    REQUIRE(admissible(sizes, prefix) == prefix);
    const double found = first_token_s(sizes, costs, prefix);
    REQUIRE(found <= first_token_s(sizes, costs, admissible(sizes, FullRecompute{}.prefix(sizes, costs))));
    REQUIRE(found <= first_token_s(sizes, costs, admissible(sizes, FullLoad{}.prefix(sizes, costs))));
    REQUIRE(found <= first_token_s(sizes, costs, UniformSplit{}.prefix(sizes, costs)));
    REQUIRE(found <= first_token_s(sizes, costs, Pyramid{}.prefix(sizes, costs)));
  }
}

TEST_CASE("a predictor counts its layers and refuses what is not valid") {
  CHECK(Predictor(realistic_sizes(100), Costs{}).layers() == 30);
  Costs costs;
  costs.pass_s = -1;
  CHECK_THROWS_AS(Predictor(realistic_sizes(100), costs), PreconditionError);
  CHECK_THROWS_AS(Predictor(RestoreSizes{}, Costs{}), PreconditionError);
}
