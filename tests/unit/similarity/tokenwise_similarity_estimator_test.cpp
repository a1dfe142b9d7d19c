#include "krul/similarity/tokenwise_similarity_estimator.hpp"

#include <doctest/doctest.h>

#include "krul/similarity/sketched_gram.hpp"
#include "samples.hpp"

using namespace krul;
using krul::test::Observed;

namespace {

/// ExactGram's bound on a distance over query rows [begin, end): 2^-8 of both norms for bf16, and for the f32 sums
/// n 2^-24 (G_ii + G_jj + 2 |G_ij|) <= n 2^-24 (|a_i| + |a_j|)^2 under the root, with n = 16 products a lane of a cell,
/// 256 cells and 16 lanes, and 4 for the factors of lent cells.
double allowed(const Observed& talk, std::size_t i, std::size_t j, std::size_t begin, std::size_t end) {
  const double norms = talk.exact.norm(i, begin, end) + talk.exact.norm(j, begin, end);
  const double distance = talk.exact.distance(i, j, begin, end), squares = 292 * 0x1p-24 * norms * norms;
  const double sums = distance > 0 ? squares / distance : std::sqrt(squares);
  return 0x1p-8 * norms + sums;
}

void check_exact(const AttentionStatistics& statistics, const Observed& talk, std::size_t begin, std::size_t end) {
  CHECK(statistics.rows == end - begin);
  for (std::size_t i = 0; i < talk.layers; ++i)
    for (std::size_t j = 0; j < talk.layers; ++j) {
      const double expected = talk.exact.distance(i, j, begin, end);
      REQUIRE(std::abs(statistics.distance(i, j) - expected) <= allowed(talk, i, j, begin, end));
      REQUIRE(statistics.squared[i * talk.layers + j] == statistics.squared[j * talk.layers + i]);
    }
  // A bin's sum of n weights in f32 is off by at most n 2^-24 of itself, n = H * rows + 4 vectors' lanes.
  const double share = static_cast<double>(talk.heads * (end - begin) + 64) * 0x1p-24;
  REQUIRE(statistics.bins() >= (end + 63) / 64);
  for (std::size_t layer = 0; layer < talk.layers; ++layer)
    for (std::size_t bin = 0; bin < statistics.bins(); ++bin) {
      const double expected = talk.exact.mass(layer, begin, end, bin * 64, bin * 64 + 64);
      REQUIRE(std::abs(statistics.mass[layer * statistics.bins() + bin] - expected) <= share * expected);
    }
}

}  // namespace

TEST_CASE("the exact estimator agrees with its twin, however rows are cut") {
  // Numbers of layers on both sides of whole register tiles.
  for (const std::size_t layers : {1, 2, 5, 7, 11})
    for (const std::size_t rows : {150, 64, 33, 1}) {
      Observed talk(layers, 2, 150);
      CAPTURE(layers);
      CAPTURE(rows);
      TokenwiseSimilarityEstimator estimator(talk.geometry());
      talk.show_all(estimator, 0, talk.tokens, rows);
      check_exact(estimator.statistics(), talk, 0, talk.tokens);
      check_exact(estimator.statistics(), talk, 0, talk.tokens);
    }
}

TEST_CASE("weights written into lent room count as much as those that are shown") {
  for (const std::size_t layers : {1, 5, 7})
    for (const std::size_t rows : {300, 64, 1}) {
      Observed talk(layers, 2, 300);
      CAPTURE(layers);
      CAPTURE(rows);
      TokenwiseSimilarityEstimator estimator(talk.geometry(), ExactGram(talk.geometry(), {.negligible = 0}));
      talk.write_all(estimator, 0, 140, rows);
      talk.show_all(estimator, 140, 200, 30);
      estimator.observe_from(220);  // the rest of the second pass is not counted
      talk.write_all(estimator, 200, 300, 50);
      const auto& statistics = estimator.statistics();
      CHECK(statistics.rows == 280);
      for (std::size_t i = 0; i < layers; ++i)
        for (std::size_t j = 0; j < layers; ++j) {
          const double squared =
              std::pow(talk.exact.distance(i, j, 0, 200), 2) + std::pow(talk.exact.distance(i, j, 220, 300), 2);
          REQUIRE(std::abs(statistics.distance(i, j) - std::sqrt(squared)) <= allowed(talk, i, j, 0, 300));
        }
    }
}

TEST_CASE("cells without a weight worth mention move squared distances by no more than is said") {
  constexpr std::size_t tokens = 600;
  Observed talk(6, 2, tokens);
  for (const float negligible : {0.0F, 0x1p-12F, 0x1p-6F, 1.0F}) {
    CAPTURE(negligible);
    TokenwiseSimilarityEstimator estimator(talk.geometry(), ExactGram(talk.geometry(), {.negligible = negligible}));
    talk.write_all(estimator, 0, tokens, 128);
    const auto& statistics = estimator.statistics();
    for (std::size_t i = 0; i < talk.layers; ++i)
      for (std::size_t j = 0; j < i; ++j) {
        // Rounding moves a distance by `allowed`, so its square by at most so much times the sum of both.
        const double exact = talk.exact.distance(i, j, 0, tokens), rounding = allowed(talk, i, j, 0, tokens);
        const double left_out = 4 * static_cast<double>(negligible) * static_cast<double>(talk.heads * tokens);
        REQUIRE(std::abs(std::pow(statistics.distance(i, j), 2) - exact * exact) <=
                rounding * (2 * exact + rounding) + left_out);
      }
    for (std::size_t layer = 0; layer < talk.layers; ++layer)
      for (std::size_t bin = 0; bin < statistics.bins(); ++bin)
        REQUIRE(statistics.mass[layer * statistics.bins() + bin] ==
                doctest::Approx(talk.exact.mass(layer, 0, tokens, bin * 64, bin * 64 + 64)).epsilon(64 * 0x1p-24));
  }
  CHECK_THROWS_AS(ExactGram(talk.geometry(), {.negligible = -0.5F}), PreconditionError);
  CHECK_THROWS_AS(ExactGram(talk.geometry(), {.negligible = 2}), PreconditionError);
  CHECK_THROWS_AS(ExactGram(talk.geometry(), {.most_rows = 0}), PreconditionError);
}

TEST_CASE("a layer's rows may come in several blocks, and prefill and decode mix") {
  Observed talk(6, 3, 140);
  TokenwiseSimilarityEstimator estimator(talk.geometry());
  talk.show_all(estimator, 0, 100, 70, 16);
  talk.show_all(estimator, 100, 120, 1);
  talk.show_all(estimator, 120, 140, 20, 7);
  check_exact(estimator.statistics(), talk, 0, talk.tokens);
}

TEST_CASE("a later turn goes on from the saved state") {
  Observed talk(4, 2, 120);
  TokenwiseSimilarityEstimator first(talk.geometry());
  talk.show_all(first, 0, 70, 50);
  const auto saved = serialize(first.statistics());

  TokenwiseSimilarityEstimator second(talk.geometry());
  second.load(parse_attention_statistics(saved).value());
  second.observe_from(70);
  talk.show_all(second, 0, 120, 60);  // the history is computed again and not counted again
  check_exact(second.statistics(), talk, 0, talk.tokens);
}

TEST_CASE("rows before the first that counts are left out") {
  Observed talk(3, 2, 90);
  TokenwiseSimilarityEstimator estimator(talk.geometry());
  estimator.observe_from(64);
  talk.show_all(estimator, 0, 90, 40);
  check_exact(estimator.statistics(), talk, 64, 90);
}

TEST_CASE("one of each four neighbours stands for all of them") {
  Observed talk(3, 2, 128);
  TokenwiseSimilarityEstimator estimator(talk.geometry(), ExactGram(talk.geometry(), {.negligible = 0}), 4);
  double squared = 0, norms = 0;
  std::size_t counted = 0;
  for (Position query = 0; query < talk.tokens; ++query) {
    if (!estimator.wants(query)) continue;
    ++counted;
    squared += 4 * std::pow(talk.exact.distance(0, 2, query, query + 1), 2);
    norms += 4 * std::pow(talk.exact.norm(0, query, query + 1) + talk.exact.norm(2, query, query + 1), 2);
  }
  CHECK(counted == talk.tokens / 4);

  talk.show_all(estimator, 0, 96, 48);
  talk.write_all(estimator, 96, talk.tokens, 1);

  const auto& statistics = estimator.statistics();
  CHECK(statistics.rows == talk.tokens);
  // The error of a distance, row by row (see allowed), times the sum of the distances: |x^2 - y^2| <= |x - y| (x + y).
  CHECK(std::abs(statistics.squared[2] - squared) <= (0x1p-7 + 292 * 0x1p-24) * norms);
  double mass = 0;
  for (std::size_t bin = 0; bin < statistics.bins(); ++bin) mass += statistics.mass[bin];
  CHECK(mass == doctest::Approx(static_cast<double>(talk.heads * talk.tokens)).epsilon(1e-5));
  estimator.observe_from(64);
  for (Position query = 0; query < 64; ++query) CHECK_FALSE(estimator.wants(query));
  CHECK_THROWS_AS(TokenwiseSimilarityEstimator(talk.geometry(), ExactGram(talk.geometry()), 0), PreconditionError);
}

TEST_CASE("two rows by hand") {
  // Layer 0 looks at the newest key, layer 1 at the first: they agree on row 0, and are sqrt(2) apart on row 1.
  TokenwiseSimilarityEstimator estimator(test::observed_geometry(2, 1));
  const std::vector<Position> queries{0, 1};
  estimator(AttentionBlock{0, queries, 2, 1, std::vector<float>{1, 0, 0, 1}});
  estimator(AttentionBlock{1, queries, 2, 1, std::vector<float>{1, 0, 1, 0}});
  CHECK(estimator.statistics().squared == std::vector<double>{0, 2, 2, 0});
  CHECK(estimator.statistics().mass == std::vector<double>{2, 2});
}

TEST_CASE("sketched distances are unbiased and within their bound") {
  Observed talk(3, 2, 100);
  // Rows longer than the sketch as well: 64 buckets wrap around.
  for (const std::size_t buckets : {64, 1024}) {
    constexpr std::size_t seeds = 200;
    double sum = 0, squares = 0;
    const double exact = std::pow(talk.exact.distance(0, 2, 0, talk.tokens), 2);
    for (std::size_t seed = 0; seed < seeds; ++seed) {
      TokenwiseSimilarityEstimator estimator(talk.geometry(), SketchedGram(talk.geometry(), buckets, seed));
      talk.show_all(estimator, 0, talk.tokens, 64);
      const double relative = estimator.statistics().squared[2] / exact - 1;
      sum += relative;
      squares += relative * relative;
    }
    // The mean of n seeds lies within four standard deviations of 0, the mean square below twice its bound of 4 / m.
    const double variance = 4.0 / static_cast<double>(buckets);
    CHECK(std::abs(sum / seeds) <= 4 * std::sqrt(variance / seeds));
    CHECK(squares / seeds <= 2 * variance);
  }
}

TEST_CASE("a sketch is the same for the same seed, and forgets what was collected") {
  Observed talk(3, 2, 80);
  const auto observe = [&](std::size_t rows) {
    TokenwiseSimilarityEstimator estimator(talk.geometry(), SketchedGram(talk.geometry()));
    talk.show_all(estimator, 0, talk.tokens, rows);
    static_cast<void>(estimator.statistics());
    return estimator.statistics();
  };
  const auto once = observe(80), again = observe(80), other_cut = observe(17);
  CHECK(once == again);
  CHECK(once.distance(0, 2) == doctest::Approx(other_cut.distance(0, 2)).epsilon(1e-5));
}

TEST_CASE("memory stays below its limit, and blocks shrink to fit") {
  const Geometry smollm = test::observed_geometry(30, 9), qwen = test::observed_geometry(24, 14);
  for (const Geometry& geometry : {smollm, qwen}) {
    const TokenwiseSimilarityEstimator<> estimator(geometry);
    CHECK(estimator.block_rows() == 128);
    TokenwiseSimilarityEstimator<> late(geometry);
    late.observe_from(4096 - 128);  // the last block of 4,096 tokens fits a GiB as a whole
    CHECK(late.block_rows() == 128);
    late.observe_from(60'000);
    CHECK(late.block_rows() < 128);
    CHECK(late.block_rows() >= 1);
  }
  CHECK(TokenwiseSimilarityEstimator<SketchedGram>(smollm).block_rows() == any_rows);
  // Of sixteen rows one is held, so that sixteen times as many may pass at once.
  CHECK(sampled_similarity_estimator(smollm).block_rows() == 2048);
  CHECK(TokenwiseSimilarityEstimator(smollm, SketchedGram(smollm), 16).block_rows() == any_rows);

  Observed talk(3, 2, 600);
  const std::size_t chunk = 256 * 3 * (256 * 2 + 5 * 4);
  ExactGram small(talk.geometry(), {.most_bytes = 2 * chunk});
  TokenwiseSimilarityEstimator estimator(talk.geometry(), std::move(small));
  talk.show_all(estimator, 0, 200, 100);  // 200 cells, less than a chunk of 256
  CHECK(estimator.metric().bytes() <= 2 * chunk);
  check_exact(estimator.statistics(), talk, 0, 200);
  CHECK_THROWS_AS(talk.show_all(estimator, 200, 600, 400), PreconditionError);
}

TEST_CASE("what does not fit together is refused") {
  const Geometry geometry = test::observed_geometry(2, 1);
  TokenwiseSimilarityEstimator estimator(geometry);
  const std::vector<Position> queries{0, 1};
  const std::vector<float> weights{1, 0, 0.5, 0.5};
  CHECK_THROWS_AS(estimator(AttentionBlock{2, queries, 2, 1, weights}), PreconditionError);
  CHECK_THROWS_AS(estimator(AttentionBlock{0, queries, 2, 2, weights}), PreconditionError);
  CHECK_THROWS_AS(estimator(AttentionBlock{0, queries, 3, 1, weights}), PreconditionError);
  CHECK_THROWS_AS(estimator(AttentionBlock{0, queries, 1, 1, std::span(weights).first(2)}), PreconditionError);
  CHECK_THROWS_AS(estimator.load(AttentionStatistics(3, 1)), PreconditionError);

  estimator(AttentionBlock{0, queries, 2, 1, weights});
  CHECK_THROWS_AS(static_cast<void>(estimator.statistics()), PreconditionError);  // layer 1 is missing
  const std::vector<Position> others{1, 2};
  CHECK_THROWS_AS(estimator(AttentionBlock{1, others, 3, 1, std::vector<float>{1, 0, 0, 1, 0, 0}}), PreconditionError);

  CHECK_THROWS_AS(ExactGram(test::observed_geometry(0, 1)), PreconditionError);
  CHECK_THROWS_AS(ExactGram(test::observed_geometry(1, 0)), PreconditionError);
  CHECK_THROWS_AS(SketchedGram(test::observed_geometry(0, 1)), PreconditionError);
  CHECK_THROWS_AS(SketchedGram(geometry, 63), PreconditionError);
  std::vector<double> squared(3);
  ExactGram exact(geometry);
  SketchedGram sketch(geometry);
  CHECK_THROWS_AS(exact.collect(squared), PreconditionError);
  CHECK_THROWS_AS(sketch.collect(squared), PreconditionError);
  const std::vector<float> row{1};
  CHECK_THROWS_AS(exact.collect_masses(squared), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(exact.lend(2, queries)), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(exact.lend(0, {})), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(exact.lend(0, std::vector<Position>{2, 1})), PreconditionError);
  CHECK_THROWS_AS(exact.add({2, 0, 0, row}), PreconditionError);
  CHECK_THROWS_AS(exact.add({0, 0, 1, row}), PreconditionError);
  CHECK_THROWS_AS(sketch.add({2, 0, 0, row}), PreconditionError);
  CHECK_THROWS_AS(exact.end_block(2), PreconditionError);
  exact.add({1, 0, 0, row});
  CHECK_THROWS_AS(exact.end_block(1), PreconditionError);
}
