#include "krul/eval/predictability.hpp"

#include <doctest/doctest.h>

#include <random>

#include "krul/core/error.hpp"

namespace krul::eval {
namespace {

constexpr std::size_t tokens = 400;

Geometry geometry_of(std::size_t layers) {
  return {.layers = layers, .query_heads = 1, .kv_heads = 1, .head_dim = 3, .hidden = 3, .vocabulary = 2, .context = 8};
}

TEST_CASE("a layer that is a linear map of another is fully predicted, an independent one not at all") {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<std::vector<float>> layers(3, std::vector<float>(tokens * 3));
  for (std::size_t t = 0; t < tokens; ++t) {
    float* const first = &layers[0][t * 3];
    for (int i = 0; i < 3; ++i) first[i] = normal(random);
    layers[1][t * 3] = 2 * first[0] - first[1] + 5;
    layers[1][t * 3 + 1] = first[2];
    layers[1][t * 3 + 2] = first[0] + first[1] + first[2] - 1;
    for (int i = 0; i < 3; ++i) layers[2][t * 3 + static_cast<std::size_t>(i)] = normal(random);
  }
  const auto unexplained = unpredictability(geometry_of(3), layers, layers);
  REQUIRE(unexplained.size() == 9);
  CHECK(unexplained[0] == 0);
  CHECK(unexplained[1] < 0.001);  // what the ridge of 1e-4 leaves
  CHECK(unexplained[1] == unexplained[3]);
  // By chance three directions explain about 3 / T of each of the others.
  CHECK(unexplained[2] > 1 - 5 * 3.0 / tokens);
}

TEST_CASE("half of the variance from one layer, half its own") {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  std::vector<std::vector<float>> keys(2, std::vector<float>(tokens * 3));
  for (std::size_t i = 0; i < tokens * 3; ++i) {
    keys[0][i] = normal(random);
    keys[1][i] = keys[0][i] + normal(random);
  }
  // 1/2 is left of layer 1 given layer 0, and of layer 0 given layer 1 as well; sampling moves it by 1 / sqrt(T).
  CHECK(unpredictability(geometry_of(2), keys, keys)[1] == doctest::Approx(0.5).epsilon(3 * 2 / std::sqrt(tokens)));
}

TEST_CASE("lengths that do not fit are the caller's mistake") {
  const std::vector<std::vector<float>> two(2, std::vector<float>(9)), none, odd(2, std::vector<float>(8));
  CHECK_THROWS_AS((void)unpredictability(geometry_of(2), none, none), PreconditionError);
  CHECK_THROWS_AS((void)unpredictability(geometry_of(2), odd, odd), PreconditionError);
  CHECK_THROWS_AS((void)unpredictability(geometry_of(2), two, odd), PreconditionError);
}

}  // namespace
}  // namespace krul::eval
