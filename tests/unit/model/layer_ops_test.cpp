#include "krul/model/layer_ops.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "krul/core/half.hpp"
#include "krul/reference/forward.hpp"

using namespace krul;

namespace {

std::vector<float> random_values(std::size_t n, unsigned seed, float deviation = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> values(n);
  for (auto& value : values) value = normal(random);
  return values;
}

std::vector<double> doubles(std::span<const float> values) {
  return {values.begin(), values.end()};
}

}  // namespace

TEST_CASE("rms_norm agrees with its twin for any length") {
  for (const std::size_t n : {1, 5, 16, 31, 64, 576}) {
    CAPTURE(n);
    const auto x = random_values(n, 1, 3), weight = random_values(n, 2);
    std::vector<float> y(n);
    rms_norm(x, weight, 1e-5F, y);
    const auto expected = reference::rms_norm(doubles(x), doubles(weight), static_cast<double>(1e-5F));
    // A sum of n squares is off by at most n u, its root by half of that; some six roundings follow.
    const double allowed = (static_cast<double>(n) / 2 + 6) * 0x1p-24;
    for (std::size_t i = 0; i < n; ++i) CHECK(std::abs(y[i] - expected[i]) <= allowed * std::abs(expected[i]));
  }
  std::vector<float> three(3), four(4);
  CHECK_THROWS_AS(rms_norm(three, four, 1e-5F, three), PreconditionError);
  CHECK_THROWS_AS(rms_norm(three, three, 1e-5F, four), PreconditionError);
}

TEST_CASE("swiglu agrees with its formula, also where the exponential ends") {
  auto gate = random_values(200, 3, 20);
  gate[0] = -100;
  gate[1] = 100;
  gate[2] = -87.5F;
  gate[3] = 88.5F;
  gate[4] = 0;
  const auto up = random_values(200, 4);
  std::vector<float> y(200);
  swiglu(gate, up, y);
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double expected = gate[i] / (1 + std::exp(-static_cast<double>(gate[i]))) * up[i];
    // e^x is good to 3 units, three roundings follow; below -87 the exact result is under 1e-36 times up.
    CHECK(std::abs(y[i] - expected) <= 8 * 0x1p-23 * std::abs(expected) + 1e-35);
  }
  // A value does not depend on its place.
  std::vector<float> tail(7);
  swiglu(std::span(gate).subspan(20, 7), std::span(up).subspan(20, 7), tail);
  CHECK(std::equal(tail.begin(), tail.end(), y.begin() + 20));
  CHECK_THROWS_AS(swiglu(gate, tail, y), PreconditionError);
}

TEST_CASE("add_to adds, and refuses other lengths") {
  auto to = random_values(37, 5);
  const auto before = to, from = random_values(37, 6);
  add_to(to, from);
  for (std::size_t i = 0; i < to.size(); ++i) CHECK(to[i] == before[i] + from[i]);
  CHECK_THROWS_AS(add_to(to, std::span(from).first(36)), PreconditionError);
}

TEST_CASE("round_row gives the bits of from_float for every type and kind of value") {
  auto values = random_values(75, 7);
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const float odd[] = {0.0F, -0.0F, infinity, -infinity, 1e-42F, 3.4e38F, 1.00390625F, 1.01171875F, 65520.0F};
  std::copy(std::begin(odd), std::end(odd), values.begin());
  values[20] = std::numeric_limits<float>::quiet_NaN();
  for (const auto type : {ElementType::f32, ElementType::f16, ElementType::bf16}) {
    CAPTURE(name(type));
    std::vector<std::byte> rounded(values.size() * size_of(type)), expected(rounded.size());
    round_row(type, values, rounded);
    from_float(type, values, expected);
    CHECK(rounded == expected);
    CHECK_THROWS_AS(round_row(type, values, std::span(rounded).first(4)), PreconditionError);
  }
}

TEST_CASE("the rotary table agrees with its twin at any position") {
  for (const auto pairs : {RotaryPairs::interleaved, RotaryPairs::halves})
    for (const std::size_t dimensions : {2, 10, 64}) {
      const Rotary rotary{pairs, dimensions, 1e6};
      const RotaryTable table(rotary, 32768);
      std::vector<float> angles(dimensions);
      for (const Position position : {0U, 1U, 255U, 256U, 257U, 5000U, 32767U}) {
        auto heads = random_values(3 * 64, position);
        auto expected = doubles(heads);
        table.angles(position, angles);
        table.rotate(heads, 64, angles);
        reference::rotate(rotary, position, expected, 64);
        // Cosine and sine are rounded once, each product and the sum once more; values stay below 8.
        for (std::size_t i = 0; i < heads.size(); ++i) CHECK(std::abs(heads[i] - expected[i]) <= 8 * 4 * 0x1p-24);
      }
      CHECK_THROWS_AS(table.angles(32768, angles), PreconditionError);
      std::vector<float> heads(65);
      CHECK_THROWS_AS(table.rotate(heads, 64, angles), PreconditionError);
      CHECK_THROWS_AS(table.angles(0, heads), PreconditionError);
    }
}
