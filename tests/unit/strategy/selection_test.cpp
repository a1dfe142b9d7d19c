#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <set>

#include "krul/compress/float_codec.hpp"
#include "krul/compress/layer_pair_compressor.hpp"
#include "krul/compress/slerp_merge.hpp"
#include "krul/restore/predict.hpp"
#include "krul/restore/uniform_split.hpp"
#include "krul/strategy/attention_similarity.hpp"
#include "krul/strategy/fixed_pairs.hpp"
#include "krul/strategy/strategy_selector.hpp"

namespace krul {
namespace {

/// Statistics in which layer l pays `edges[l]` of its attention to the two tenths, and distances are as given.
AttentionStatistics statistics_of(const std::vector<double>& edges, const std::vector<double>& squared) {
  AttentionStatistics statistics(edges.size(), 1);
  statistics.rows = 1;
  statistics.squared = squared;
  statistics.reserve_keys(640);  // ten bins: the tenths are the first and the last
  for (std::size_t layer = 0; layer < edges.size(); ++layer) {
    statistics.mass[layer * 10] = edges[layer] / 2;
    statistics.mass[layer * 10 + 9] = edges[layer] / 2;
    statistics.mass[layer * 10 + 5] = 1 - edges[layer];
  }
  return statistics;
}

const std::vector<double> four_by_four = {0, 9, 4, 7,  //
                                          9, 0, 1, 3,  //
                                          4, 1, 0, 8,  //
                                          7, 3, 8, 0};

TEST_CASE("pairs are taken in the order of their distance, each layer once") {
  // By distance: (1,2) 1, (1,3) 3, (0,2) 4, (0,3) 7, ...: after (1,2) only (0,3) is left.
  CHECK(greedy_pairs(four_by_four, std::vector<bool>(4, true), 4) == std::vector<LayerPair>{{1, 2}, {0, 3}});
  CHECK(greedy_pairs(four_by_four, std::vector<bool>(4, true), 1) == std::vector<LayerPair>{{1, 2}});
  CHECK(greedy_pairs(four_by_four, {true, true, false, true}, 4) == std::vector<LayerPair>{{1, 3}});
  CHECK(greedy_pairs(four_by_four, std::vector<bool>(4, true), 0).empty());
  CHECK_THROWS_AS((void)greedy_pairs(four_by_four, std::vector<bool>(3, true), 1), PreconditionError);
}

TEST_CASE("layers that look elsewhere than at the two ends are left alone") {
  const auto statistics = statistics_of({0.9, 0.2, 0.6, 0.7}, four_by_four);
  const SelectionQuestion question{.statistics = statistics, .layers = 4, .tokens = 640, .pairs = 1};
  CHECK(statistics.edge_mass(1, 640) == doctest::Approx(0.2));
  CHECK(AttentionSimilarity(0.5).candidates(question) == std::vector<bool>{true, false, true, true});
  CHECK(AttentionSimilarity(0.5).pairs(question) == std::vector<LayerPair>{{0, 2}});
  CHECK(AttentionSimilarity(0.0).pairs(question) == std::vector<LayerPair>{{1, 2}});
}

TEST_CASE("if too few layers qualify, the ones closest to it are taken") {
  const auto statistics = statistics_of({0.1, 0.2, 0.3, 0.4}, four_by_four);
  const SelectionQuestion question{.statistics = statistics, .layers = 4, .tokens = 640, .pairs = 1};
  CHECK(AttentionSimilarity(0.5).candidates(question) == std::vector<bool>{false, false, true, true});
  CHECK(AttentionSimilarity(0.5).pairs(question) == std::vector<LayerPair>{{2, 3}});
}

TEST_CASE("statistics of another model, or none, and shares that are none are refused") {
  const AttentionStatistics none;
  CHECK_THROWS_AS((void)AttentionSimilarity{}.pairs({.statistics = none, .layers = 4, .tokens = 10, .pairs = 1}),
                  PreconditionError);
  CHECK_THROWS_AS(AttentionSimilarity(1.5), PreconditionError);
  CHECK_THROWS_AS((void)StrategySelector<NoSharing>::pairs_for(8, 0.4), PreconditionError);
  CHECK_THROWS_AS((void)PairsByDistance({1, 2}).pairs({.statistics = none, .layers = 4, .tokens = 10, .pairs = 1}),
                  PreconditionError);
}

TEST_CASE("the budget of the paper: a quarter of the layers is saved by as many pairs") {
  using Selector = StrategySelector<NoSharing>;
  CHECK(Selector::pairs_for(32, 0.75) == 8);
  CHECK(Selector::pairs_for(60, 0.75) == 15);
  CHECK(Selector::pairs_for(80, 0.75) == 20);
  CHECK(Selector::pairs_for(30, 0.75) == 7);
  CHECK(Selector::pairs_for(24, 0.75) == 6);
  CHECK(Selector::pairs_for(24, 1) == 0);
}

TEST_CASE("fixed pairs are neighbours from the middle up") {
  const AttentionStatistics none;
  CHECK(FixedDeepPairs{}.pairs({.statistics = none, .layers = 8, .tokens = 1, .pairs = 9}) ==
        std::vector<LayerPair>{{4, 5}, {6, 7}});
  CHECK(FixedDeepPairs{}.pairs({.statistics = none, .layers = 32, .tokens = 1, .pairs = 8}).back() ==
        LayerPair{30, 31});
  CHECK(NoSharing{}.pairs({.statistics = none, .layers = 8, .tokens = 1, .pairs = 2}).empty());
}

TEST_CASE("random pairs are disjoint, as many as wanted, and depend on the seed only") {
  const AttentionStatistics none;
  std::set<std::size_t> firsts;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const SelectionQuestion question{.statistics = none, .layers = 30, .tokens = 1, .pairs = 7};
    const auto pairs = RandomPairs(seed).pairs(question);
    CHECK(pairs.size() == 7);
    CHECK_NOTHROW(expects_disjoint(pairs, 30));
    CHECK(pairs == RandomPairs(seed).pairs(question));
    firsts.insert(pairs[0].shallow);
  }
  CHECK(firsts.size() > 10);
}

/// What a plan stores, in rows of one layer, counted row by row.
double rows_stored(const std::vector<std::size_t>& prefix, const std::vector<LayerPair>& pairs, std::size_t tokens,
                   double merged) {
  double rows = 0;
  std::vector<bool> paired(prefix.size(), false);
  for (const auto& pair : pairs) paired[pair.shallow] = paired[pair.deep] = true;
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t l = 0; l < prefix.size(); ++l)
      if (!paired[l] && t >= prefix[l]) rows += 1;
    for (const auto& pair : pairs) {
      const bool shallow = t >= prefix[pair.shallow], deep = t >= prefix[pair.deep];
      rows += shallow && deep ? merged : (shallow || deep ? 1 : 0);
    }
  }
  return rows;
}

TEST_CASE("what is stored: single layers, merged rows of pairs, and rows that only one of a pair keeps") {
  std::mt19937_64 random(3);
  for (int round = 0; round < 200; ++round) {
    const std::size_t layers = 2 + random() % 9, block = 4, blocks = random() % 9;
    const std::size_t tokens = blocks * block;
    const AttentionStatistics none;
    const auto pairs = RandomPairs(random()).pairs(
        {.statistics = none, .layers = layers, .tokens = tokens, .pairs = random() % (layers / 2 + 1)});
    std::vector<std::size_t> prefix(layers);
    std::size_t above = blocks;
    for (auto& p : prefix) p = (above = random() % (above + 1)) * block;
    const RestoreSizes sizes = sizes_if_stored(tokens, block, layers, pairs, {.single = 40, .pair = 44});
    CHECK(Predictor(sizes, Costs{})(prefix).bytes == doctest::Approx(10 * rows_stored(prefix, pairs, tokens, 1.1)));
  }
}

TEST_CASE("what the paper's pyramid stores of 32 layers and 8 pairs, in shares of everything") {
  // The mean share of 0.43 falls linearly from 0.86 to 0; blocks of one token of 1,000.
  const std::size_t layers = 32, tokens = 1000;
  const Costs costs;
  const auto share = [&](const std::vector<LayerPair>& pairs, bool is_pyramid) {
    const RestoreSizes sizes = sizes_if_stored(tokens, 1, layers, pairs, {.single = 100, .pair = 100});
    const auto prefix = is_pyramid ? Pyramid(0.43).prefix(sizes, costs) : UniformSplit(0.43).prefix(sizes, costs);
    return static_cast<double>(Predictor(sizes, costs)(prefix).bytes) / (100.0 * tokens * layers);
  };
  std::vector<LayerPair> adjacent, distant;
  for (std::size_t i = 0; i < 8; ++i) {
    adjacent.push_back({16 + 2 * i, 17 + 2 * i});
    distant.push_back({i + 4, i + 16});
  }
  CHECK(share(adjacent, true) == doctest::Approx(0.375).epsilon(0.02));
  CHECK(share(distant, true) == doctest::Approx(0.455).epsilon(0.02));
  CHECK(share(adjacent, false) == doctest::Approx(0.4275).epsilon(0.001));  // 0.75 * (1 - 0.43)
}

TEST_CASE("Eq. 1: the split whose two lanes take equally long") {
  // One layer of 100 tokens: recomputing costs 3 s a token, with one of a prompt, loading 2 s. They meet where
  // 3 (p + 1) = 2 (100 - p), p = 39.4: 39 leaves a gap of 2 s, 40 one of 3 s.
  RestoreSizes sizes = sizes_if_stored(100, 1, 1, {}, {.single = 2});
  const Costs costs{.link = {.bytes_per_s = 1}, .layer = {.project_row_s = 3}};
  CHECK(balanced_pyramid(sizes, costs) == std::vector<std::size_t>{39});
  // With a pair every second layer is free of charge: the load halves, and so does what is worth recomputing.
  const std::vector<LayerPair> pair = {{0, 1}};
  const auto alone = balanced_pyramid(sizes_if_stored(100, 1, 2, {}, {.single = 2}), costs);
  const auto paired = balanced_pyramid(sizes_if_stored(100, 1, 2, pair, {.single = 2, .pair = 2}), costs);
  CHECK(paired[0] < alone[0]);
}

TEST_CASE("no other pyramid is closer to balance") {
  std::mt19937_64 random(5);
  for (int round = 0; round < 50; ++round) {
    const auto draw = [&](double most) { return most * std::generate_canonical<double, 53>(random); };
    const Costs costs{.link = {.latency_s = draw(1e-3), .bytes_per_s = 1e3 + draw(1e6)},
                      .layer = {.call_s = draw(1e-3),
                                .project_row_s = draw(1e-3),
                                .finish_row_s = draw(1e-3),
                                .attend_pair_s = draw(1e-6)}};
    const RestoreSizes sizes = sizes_if_stored(32 * (1 + random() % 8), 32, 6, {}, {.single = 1 + random() % 5000});
    const Predictor predictor(sizes, costs);
    const auto gap_s = [&](const std::vector<std::size_t>& prefix) {
      const Prediction predicted = predictor(prefix);
      return std::abs(predicted.busy[Resource::cores] - predicted.busy[Resource::link]);
    };
    const double chosen = gap_s(balanced_pyramid(sizes, costs));
    for (std::size_t i = 0; i <= 2 * sizes.blocks(); ++i)
      CHECK(chosen <=
            gap_s(admissible(
                sizes,
                Pyramid(static_cast<double>(i) / (2.0 * static_cast<double>(sizes.blocks()))).prefix(sizes, costs))));
  }
}

TEST_CASE("a selector's plan holds the pairs, their coding and what they leave out") {
  const auto statistics = statistics_of({0.9, 0.9, 0.9, 0.9}, four_by_four);
  SavePlan codings = SavePlan::separate(F16Codec{});
  codings.pair_coding = LayerPairCompressor(SlerpMerge{}, F16Codec{});
  Evidence evidence{.geometry = {.layers = 4},
                    .tokens = 640,
                    .statistics = statistics,
                    .block_bytes = {.single = 1000, .pair = 1100}};
  const StrategySelector selector(AttentionSimilarity{});
  SavePlan plan = selector.select(codings, evidence);
  CHECK(plan.pairs == std::vector<LayerPair>{{1, 2}});
  CHECK(plan.settings == "pairs 1+2");
  CHECK(plan.left_out.empty());
  CHECK(plan.pair_coding.layers() == 2);
  CHECK_NOTHROW(expects_valid(plan, 4));
  evidence.costs = Costs{.link = {.bytes_per_s = 1e6}, .layer = {.project_row_s = 1e-6, .finish_row_s = 1e-6}};
  plan = selector.select(codings, evidence);
  CHECK(plan.left_out[0] > 0);
  CHECK_NOTHROW(expects_valid(plan, 4));
}

}  // namespace
}  // namespace krul
