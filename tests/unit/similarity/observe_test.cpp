#include "krul/similarity/observe.hpp"

#include <doctest/doctest.h>

#include <numeric>
#include <vector>

#include "../../../examples/02_your_own_backend/toy_backend.hpp"
#include "krul/backend/conformance/pass.hpp"
#include "krul/similarity/sketched_gram.hpp"
#include "krul/similarity/tokenwise_similarity_estimator.hpp"

using namespace krul;

TEST_CASE("an observed prefill leaves the same cache and logits, whatever its pieces") {
  toy::Backend model;
  std::vector<Token> tokens(200);
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<Token>(i * 7 % model.geometry().vocabulary);
  const std::size_t vocabulary = model.geometry().vocabulary;
  const auto whole = conformance::run(model, tokens, {});
  AttentionStatistics first;
  const auto check = [&](auto estimator, std::size_t rows) {
    CAPTURE(rows);
    auto cache = model.make_cache(tokens.size());
    auto batch = model.make_batch();
    std::vector<float> logits(rows * vocabulary);
    observed_prefill(model, cache, batch, tokens, logits, estimator);
    CHECK(conformance::all_rows(model, cache, tokens.size()) == whole.rows);
    CHECK(std::ranges::equal(logits, std::span(whole.logits).last(rows * vocabulary)));
    const auto& statistics = estimator.statistics();
    CHECK(statistics.rows == tokens.size());
    if (first.layers == 0) first = statistics;
    // The same rows cut at other places: only the order of the sums differs, and a sketch is a sketch.
    if constexpr (std::is_same_v<decltype(estimator), TokenwiseSimilarityEstimator<ExactGram>>)
      CHECK(statistics.distance(0, 1) == doctest::Approx(first.distance(0, 1)).epsilon(1e-4));
  };
  for (const std::size_t rows : {0, 1, 130}) {
    check(TokenwiseSimilarityEstimator<ExactGram>(model.geometry()), rows);
    check(TokenwiseSimilarityEstimator<SketchedGram>(model.geometry()), rows);
  }
}
