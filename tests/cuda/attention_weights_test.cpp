#include "krul/cuda/kernels/attention_weights.hpp"

#include <doctest/doctest.h>

#include "cuda/attention_problem.hpp"
#include "cuda/fibre_place.hpp"
#include "krul/cuda/kernels/add_squared_weights.hpp"
#include "krul/similarity/row_attention_estimator.hpp"

using namespace krul;
using cuda::KeySplits;
using cuda::test::AttentionProblem, cuda::test::FibrePlace;

TEST_CASE("a device shows the weights of some rows, and each of these sums to 1") {
  constexpr ElementType types[] = {ElementType::f32, ElementType::f16, ElementType::bf16};
  std::mt19937_64 random(11);
  cuda::test::WeightErrors worst;
  for (std::uint64_t round = 0; round < 210; ++round) {
    CAPTURE(round);
    const AttentionProblem problem = cuda::test::random_attention(types[round % 3], random);
    const KeySplits splits = cuda::split_keys(static_cast<std::uint32_t>(problem.seen()), 1 + round % 3);
    const auto log_sums = problem.attend(FibrePlace(round), ElementType::bf16, splits).log_sums;
    const auto rows = cuda::test::random_rows(problem, random);
    const auto errors =
        cuda::test::errors_of(problem, rows, problem.weights(FibrePlace(round), log_sums, rows), splits);
    CHECK(errors.weight <= 1);
    CHECK(errors.sum <= 1);
    worst = {std::max(worst.weight, errors.weight), std::max(worst.sum, errors.sum)};
  }
  MESSAGE("off by at most " << worst.weight << " of what is allowed, sums by " << worst.sum);
}

TEST_CASE("weights of a row that sees what is not finite are not either") {
  std::mt19937_64 random(12);
  for (const ElementType type : {ElementType::f32, ElementType::f16, ElementType::bf16}) {
    AttentionProblem problem({.layers = 1, .query_heads = 1, .kv_heads = 1, .head_dim = 16, .cache_type = type}, {4, 9},
                             random);
    problem.put(problem.keys, 7 * 16, std::numeric_limits<float>::infinity());
    const auto log_sums = problem.attend(FibrePlace(1), ElementType::f32, KeySplits{}).log_sums;
    const auto weights = problem.weights(FibrePlace(2), log_sums, {0, 1});
    for (std::size_t key = 0; key < 10; ++key) {
      CHECK((key > 4 ? weights[key] == 0 : weights[key] > 0));
      CHECK(std::isnan(weights[10 + key]));
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
