#include "krul/calibrate/error_weights.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <numeric>
#include <random>

#include "krul/core/error.hpp"
#include "support/profile_samples.hpp"

using namespace krul;

TEST_CASE("what errors of V do, and how much those of K, against sums in double") {
  const Geometry geometry = krul::testing::profile_geometry();
  const std::size_t tokens = 12, heads = geometry.query_heads, size = geometry.head_dim, width = geometry.kv_values();
  std::mt19937_64 random(2);
  std::normal_distribution<float> normal;
  const auto draw = [&](std::size_t count) {
    std::vector<float> values(count);
    for (float& value : values) value = normal(random);
    return values;
  };
  std::vector<std::vector<float>> outputs;
  for (std::size_t layer = 0; layer < geometry.layers; ++layer) outputs.push_back(draw(geometry.hidden * heads * size));
  Workers workers(2);
  ErrorWeights weights(geometry, outputs, workers);
  CHECK_THROWS_AS((void)weights.keys(), PreconditionError);
  std::vector<Position> queries(tokens);
  std::iota(queries.begin(), queries.end(), Position{0});
  std::vector<float> values, all_queries, attention, softmax(heads * tokens * tokens);
  const double hidden = 1.7;
  for (std::size_t layer = 0; layer < geometry.layers; ++layer) {
    values = draw(tokens * width);
    all_queries = draw(tokens * heads * size);
    attention = draw(tokens * heads * size);
    for (std::size_t head = 0; head < heads; ++head)
      for (std::size_t t = 0; t < tokens; ++t)
        for (std::size_t s = 0; s <= t; ++s)
          softmax[(head * tokens + t) * tokens + s] = 1 / static_cast<float>(t + 1 + (s + head) % 3);
    weights.begin({values, all_queries, attention, hidden});
    weights(AttentionBlock{layer, queries, tokens, heads, softmax});
  }
  // The last layer, second KV head: query heads 2 and 3.
  const std::size_t layer = geometry.layers - 1, kv = 1;
  std::vector<double> of_values(size * size);
  double trace = 0;
  for (std::size_t head = 2; head < 4; ++head) {
    double squares = 0;
    for (std::size_t t = 0; t < tokens; ++t) {
      double total = 0;
      for (std::size_t s = 4; s <= t; ++s) {
        const double a = softmax[(head * tokens + t) * tokens + s];
        squares += a * a;
        for (std::size_t row = 0; row < geometry.hidden; ++row) {
          double change = 0;
          for (std::size_t i = 0; i < size; ++i)
            change += double{outputs[layer][row * heads * size + head * size + i]} *
                      (double{values[s * width + kv * size + i]} - attention[(t * heads + head) * size + i]);
          total += a * a * change * change;
        }
      }
      double length = 0;
      for (std::size_t i = 0; i < size; ++i) length += std::pow(double{all_queries[(t * heads + head) * size + i]}, 2);
      trace += total * length / static_cast<double>(size);
    }
    for (std::size_t i = 0; i < size; ++i)
      for (std::size_t j = 0; j < size; ++j)
        for (std::size_t row = 0; row < geometry.hidden; ++row)
          of_values[i * size + j] += squares * outputs[layer][row * heads * size + head * size + i] *
                                     outputs[layer][row * heads * size + head * size + j];
  }
  const double scale = 1 / (hidden * static_cast<double>(tokens));
  const auto keys = weights.keys(), found = weights.values();
  const std::size_t at = (layer * geometry.kv_heads + kv) * size * size;
  double found_trace = 0;
  for (std::size_t i = 0; i < size; ++i) {
    found_trace += keys[at + i * size + i];
    for (std::size_t j = 0; j < size; ++j)  // sums of 32 products in float
      CHECK(found[at + i * size + j] == doctest::Approx(of_values[i * size + j] * scale).epsilon(1e-4).scale(1));
  }
  // Turning a query keeps its length, so the trace does not depend on which keys were drawn.
  CHECK(found_trace == doctest::Approx(trace * scale).epsilon(1e-4));
  outputs.pop_back();
  CHECK_THROWS_AS(ErrorWeights(geometry, outputs, workers), PreconditionError);
}
