#include "krul/model/layer_ops.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "krul/core/finite.hpp"
#include "krul/core/half.hpp"
#include "krul/reference/forward.hpp"
#include "support/levels.hpp"

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

/// Calls check(ops) for each level that this processor has.
template <class Check>
void for_each_ops(Check&& check) {
  for (const Processor& processor : testing::processors_by_level()) {
    const LayerOps ops(processor);
    CAPTURE(name(ops.level()));
    CHECK(includes(processor.level(), ops.level()));
    check(ops);
  }
}

bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

}  // namespace

TEST_CASE("rms_norm agrees with its twin for any length") {
  for_each_ops([](const LayerOps& ops) {
    for (const std::size_t n : {1, 5, 16, 31, 64, 576}) {
      CAPTURE(n);
      const auto x = random_values(n, 1, 3), weight = random_values(n, 2);
      std::vector<float> y(n);
      ops.rms_norm(x, weight, 1e-5F, y);
      const auto expected = reference::rms_norm(doubles(x), doubles(weight), static_cast<double>(1e-5F));
      // A sum of n squares is off by at most n u, its root by half of that; some six roundings follow.
      const double allowed = (static_cast<double>(n) / 2 + 6) * 0x1p-24;
      for (std::size_t i = 0; i < n; ++i) CHECK(std::abs(y[i] - expected[i]) <= allowed * std::abs(expected[i]));
      auto in_place = x;
      ops.rms_norm(in_place, weight, 1e-5F, in_place);
      CHECK(same_bits(in_place, y));
    }
    std::vector<float> three(3), four(4);
    CHECK_THROWS_AS(ops.rms_norm(three, four, 1e-5F, three), PreconditionError);
    CHECK_THROWS_AS(ops.rms_norm(three, three, 1e-5F, four), PreconditionError);
  });
}

TEST_CASE("rms_norm of a row whose squares leave the range of floats is no row of zeros") {
  for_each_ops([](const LayerOps& ops) {
    for (const std::size_t n : {1, 5, 64, 576})
      for (const float size : {1e19F, 1e30F, 3e38F}) {
        CAPTURE(n);
        CAPTURE(size);
        auto x = random_values(n, 1), y = x;
        const auto weight = random_values(n, 2);
        for (auto& value : x) value = std::clamp(value, -1.0F, 1.0F) * size;
        ops.rms_norm(x, weight, 1e-5F, y);
        const auto expected = reference::rms_norm(doubles(x), doubles(weight), static_cast<double>(1e-5F));
        const double allowed = (static_cast<double>(n) / 2 + 6) * 0x1p-24;
        for (std::size_t i = 0; i < n; ++i) CHECK(std::abs(y[i] - expected[i]) <= allowed * std::abs(expected[i]));
        x[n / 2] = std::numeric_limits<float>::infinity();
        ops.rms_norm(x, weight, 1e-5F, y);
        CHECK(!are_finite(y));
      }
  });
}

TEST_CASE("swiglu agrees with its formula, also where the exponential ends") {
  auto gate = random_values(200, 3, 20);
  gate[0] = -100;
  gate[1] = 100;
  gate[2] = -87.5F;
  gate[3] = 88.5F;
  gate[4] = 0;
  const auto up = random_values(200, 4);
  for_each_ops([&](const LayerOps& ops) {
    std::vector<float> y(200);
    ops.swiglu(gate, up, y);
    for (std::size_t i = 0; i < y.size(); ++i) {
      const double expected = gate[i] / (1 + std::exp(-static_cast<double>(gate[i]))) * up[i];
      // e^x is good to 3 units, three roundings follow; below -87 the exact result is under 1e-36 times up.
      CHECK(std::abs(y[i] - expected) <= 8 * 0x1p-23 * std::abs(expected) + 1e-35);
    }
    // A value does not depend on its place, nor on where the result goes.
    auto tail = std::vector<float>(gate.begin() + 20, gate.begin() + 27);
    ops.swiglu(tail, std::span(up).subspan(20, 7), tail);
    CHECK(same_bits(tail, std::span(y).subspan(20, 7)));
    CHECK_THROWS_AS(ops.swiglu(gate, tail, y), PreconditionError);
  });
}

TEST_CASE("add adds, and refuses other lengths") {
  const auto before = random_values(37, 5), from = random_values(37, 6);
  for_each_ops([&](const LayerOps& ops) {
    auto to = before;
    ops.add(to, from);
    for (std::size_t i = 0; i < to.size(); ++i) CHECK(to[i] == before[i] + from[i]);
    CHECK_THROWS_AS(ops.add(to, std::span(from).first(36)), PreconditionError);
  });
}

TEST_CASE("round gives the bits of from_float for every type and kind of value") {
  // Every exponent and sign, with the bits that are cut off at, below and above half of a unit of either type.
  std::vector<float> values;
  for (std::uint32_t top = 0; top < 512; ++top)
    for (const std::uint32_t rest : {0U, 1U, 0xfffU, 0x1000U, 0x1001U, 0x3000U, 0x7fffU, 0x8000U, 0x8001U, 0x18000U,
                                     0x400000U, 0x7fe000U, 0x7ff000U, 0x7fffffU})
      values.push_back(std::bit_cast<float>(top << 23 | rest));
  values.push_back(65520.0F);  // the least that rounds to infinity
  const auto some = random_values(75, 7);
  values.insert(values.end(), some.begin(), some.end());
  for_each_ops([&](const LayerOps& ops) {
    for (const auto type : {ElementType::f32, ElementType::f16, ElementType::bf16}) {
      CAPTURE(name(type));
      std::vector<std::byte> rounded(values.size() * size_of(type)), expected(rounded.size());
      ops.round(type, values, rounded);
      from_float(type, values, expected);
      CHECK(rounded == expected);
      CHECK_THROWS_AS(ops.round(type, values, std::span(rounded).first(4)), PreconditionError);
      std::vector<std::byte> tail(5 * size_of(type));  // too few for a vector
      ops.round(type, std::span(values).subspan(3, 5), tail);
      CHECK(std::equal(tail.begin(), tail.end(), rounded.begin() + static_cast<std::ptrdiff_t>(3 * size_of(type))));
    }
  });
}

TEST_CASE("heads are turned as by their twin at any position") {
  for_each_ops([](const LayerOps& ops) {
    for (const auto pairs : {RotaryPairs::interleaved, RotaryPairs::halves})
      for (const std::size_t dimensions : {2, 10, 64}) {
        const Rotary rotary{pairs, dimensions, 1e6};
        const RotaryTable table(rotary, 32768);
        std::vector<float> angles(dimensions);
        for (const Position position : {0U, 1U, 255U, 256U, 257U, 5000U, 32767U}) {
          const auto before = random_values(3 * 64, position);
          auto heads = before;
          auto expected = doubles(heads);
          table.angles(position, angles);
          ops.rotate(rotary, heads, 64, angles);
          reference::rotate(rotary, position, expected, 64);
          // Cosine and sine are rounded once, each product and the sum once more; values stay below 8.
          for (std::size_t i = 0; i < heads.size(); ++i) CHECK(std::abs(heads[i] - expected[i]) <= 8 * 4 * 0x1p-24);
          std::vector<float> alone(before.end() - 64, before.end());
          ops.rotate(rotary, alone, 64, angles);
          CHECK(same_bits(alone, std::span(heads).last(64)));
        }
        CHECK_THROWS_AS(table.angles(32768, angles), PreconditionError);
        std::vector<float> heads(65);
        CHECK_THROWS_AS(ops.rotate(rotary, heads, 64, angles), PreconditionError);
        CHECK_THROWS_AS(table.angles(0, heads), PreconditionError);
      }
  });
}
