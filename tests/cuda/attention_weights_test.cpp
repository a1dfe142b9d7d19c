#include "krul/cuda/kernels/attention_weights.hpp"

#include <doctest/doctest.h>

#include "cuda/attention_problem.hpp"
#include "krul/cuda/kernels/add_squared_weights.hpp"
#include "krul/similarity/row_attention_estimator.hpp"

using namespace krul;
using cuda::KeySplits;
using cuda::test::AttentionBounds, cuda::test::AttentionProblem;

namespace {

constexpr ElementType types[] = {ElementType::f32, ElementType::f16, ElementType::bf16};
constexpr float untouched = -7;

/// Weights of some rows: [H, W, K].
struct Wanted {
  std::vector<std::uint32_t> rows;
  std::size_t keys = 0;
  std::vector<float> weights;

  Wanted(const AttentionProblem& problem, std::span<const float> log_sums, std::vector<std::uint32_t> some,
         std::uint64_t seed)
      : rows(std::move(some)), keys(problem.positions[rows.back()] + std::size_t{1}) {
    weights.assign(problem.geometry.query_heads * rows.size() * keys + 3, untouched);
    cuda::attention_weights(
        problem.input(), problem.geometry.cache_type,
        {rows.data(), log_sums.data(), weights.data(), static_cast<std::uint32_t>(rows.size()),
         static_cast<std::uint32_t>(keys)},
        [&](const auto& kernel, const cuda::Launch& launch) { cuda::test::run_grid(kernel, launch, seed); });
  }
  [[nodiscard]] std::span<const float> row(std::size_t head, std::size_t place) const {
    return std::span(weights).subspan((head * rows.size() + place) * keys, keys);
  }
};

std::vector<std::uint32_t> random_rows(const AttentionProblem& problem, std::mt19937_64& random) {
  std::vector<std::uint32_t> rows;
  for (std::uint32_t row = 0; row < problem.positions.size(); ++row)
    if (random() % 3 != 0) rows.push_back(row);
  if (rows.empty()) rows.push_back(0);
  return rows;
}

}  // namespace

TEST_CASE("a device shows the weights of some rows, and each of these sums to 1") {
  std::mt19937_64 random(11);
  double worst = 0, worst_sum = 0;
  for (std::uint64_t round = 0; round < 210; ++round) {
    CAPTURE(round);
    const AttentionProblem problem = cuda::test::random_attention(types[round % 3], random);
    const KeySplits splits = cuda::split_keys(static_cast<std::uint32_t>(problem.seen()), 1 + round % 3);
    const auto log_sums = problem.attend(ElementType::bf16, splits, round).log_sums;
    const Wanted found(problem, log_sums, random_rows(problem, random), round);
    const auto expected = problem.expected();
    const AttentionBounds bounds(problem, splits);
    const double keys = static_cast<double>(problem.seen()), score = problem.largest_score();
    // log2 of a sum of `keys` terms, rounded itself and in the sum with the top, which the score is then subtracted
    // from.
    const double logarithm = 2 * std::numbers::ln2 * 0x1p-24 * (3 * std::log2(keys) + 3 * score);
    const double allowed = 2 * bounds.weight + bounds.sum + logarithm + AttentionBounds::exponential;
    const double allowed_sum = 0x1p-22 * (keys / 32 + 8) * (2 + score) + 0x1p-23 * keys;
    CHECK(bounds.softmax + bounds.sum / 2 + logarithm + AttentionBounds::exponential <= allowed_sum);
    for (std::size_t head = 0; head < problem.geometry.query_heads; ++head)
      for (std::size_t place = 0; place < found.rows.size(); ++place) {
        const auto& twin = expected.weights[found.rows[place] * problem.geometry.query_heads + head];
        const auto row = found.row(head, place);
        double sum = 0;
        for (std::size_t key = 0; key < row.size(); ++key) {
          const double weight = key < twin.size() ? twin[key] : 0;
          REQUIRE(std::abs(row[key] - weight) <= allowed * weight + 0x1p-126);
          if (weight > 0x1p-100) worst = std::max(worst, std::abs(row[key] - weight) / (allowed * weight));
          sum += row[key];
        }
        CHECK(std::abs(sum - 1) <= allowed_sum);
        worst_sum = std::max(worst_sum, std::abs(sum - 1) / allowed_sum);
      }
    CHECK(std::all_of(found.weights.end() - 3, found.weights.end(), [](float value) { return value == untouched; }));
  }
  MESSAGE("off by at most " << worst << " of what is allowed, sums by " << worst_sum);
}

TEST_CASE("weights of a row that sees what is not finite are not either") {
  std::mt19937_64 random(12);
  for (const ElementType type : types) {
    AttentionProblem problem({.layers = 1, .query_heads = 1, .kv_heads = 1, .head_dim = 16, .cache_type = type}, {4, 9},
                             random);
    problem.put(problem.keys, 7 * 16, std::numeric_limits<float>::infinity());
    const Wanted found(problem, problem.attend(ElementType::f32, KeySplits{}, 1).log_sums, {0, 1}, 2);
    for (std::size_t key = 0; key < 10; ++key) {
      CHECK((key > 4 ? found.row(0, 0)[key] == 0 : found.row(0, 0)[key] > 0));
      CHECK(std::isnan(found.row(0, 1)[key]));
    }
  }
}

TEST_CASE("what keys receive is what the estimator of rows' attention adds up") {
  std::mt19937_64 random(13);
  for (std::uint64_t round = 0; round < 20; ++round) {
    const std::size_t rows = 1 + random() % 40, first = random() % 300, heads = 1 + random() % 4;
    const Geometry geometry{.layers = 1, .query_heads = heads, .kv_heads = 1, .head_dim = 16};
    std::vector<Position> positions(rows);
    for (std::size_t row = 0; row < rows; ++row) positions[row] = static_cast<Position>(first + row);
    const std::size_t keys = first + rows;
    std::vector<float> weights(heads * rows * keys);
    for (std::size_t i = 0; i < weights.size(); ++i)
      if (i % keys <= first + i / keys % rows) weights[i] = static_cast<float>(random() % 1024) / 1024;
    RowAttentionEstimator estimator(geometry, {1});
    estimator.observe_from(0);
    estimator(AttentionBlock{0, positions, keys, heads, weights});

    std::vector<float> times(rows), squares(keys);
    for (std::size_t row = 0; row < rows; ++row)
      if (positions[row] % RowAttentionEstimator::layers_apart == 0)
        times[row] =
            static_cast<float>(RowAttentionEstimator::layers_apart * RowAttention::weight_of_age(rows - 1 - row));
    const cuda::AddSquaredWeights kernel{weights.data(),
                                         times.data(),
                                         squares.data(),
                                         static_cast<std::uint32_t>(heads),
                                         static_cast<std::uint32_t>(rows),
                                         static_cast<std::uint32_t>(keys)};
    cuda::test::run_grid(kernel, kernel.launch(), round);
    // Both round each of their products and sums.
    const double allowed = 2 * static_cast<double>(heads + rows + 2) * 0x1p-24;
    for (std::size_t key = 0; key < keys; ++key) {
      const double expected = estimator.attention().squares[key];
      CHECK(std::abs(squares[key] - expected) <= allowed * expected);
    }
  }
}
