#include "krul/eval/heavy_hitters.hpp"

#include <doctest/doctest.h>

#include <cmath>

#include "krul/core/half.hpp"
#include "krul/reference/forward.hpp"

namespace krul::eval {
namespace {

Geometry geometry_of(RotaryPairs pairs) {
  return {.layers = 1,
          .query_heads = 2,
          .kv_heads = 1,
          .head_dim = 4,
          .hidden = 8,
          .vocabulary = 8,
          .context = 64,
          .cache_type = ElementType::f32,
          .rotary = {.pairs = pairs, .dimensions = 4, .base = 100.0}};
}

TEST_CASE("the latest keys stay, and of the others those that received most") {
  KeyMasses masses(geometry_of(RotaryPairs::halves));
  const std::vector<Position> queries = {4, 5};
  // Two heads, two rows, six keys.
  const std::vector<float> weights = {0.1F, 0.5F, 0.1F, 0.2F, 0.1F, 0.0F, 0.1F, 0.5F, 0.0F, 0.2F, 0.1F, 0.1F,
                                      0.2F, 0.4F, 0.0F, 0.3F, 0.1F, 0.0F, 0.1F, 0.4F, 0.1F, 0.2F, 0.1F, 0.1F};
  masses({.layer = 0, .queries = queries, .keys = 6, .query_heads = 2, .weights = weights});
  CHECK(masses.kept(0, 0, 4) == std::vector<std::size_t>{1, 3, 4, 5});
  CHECK(masses.kept(0, 0, 6) == std::vector<std::size_t>{0, 1, 2, 3, 4, 5});
  CHECK(masses.kept(0, 0, 1) == std::vector<std::size_t>{1});
  CHECK_THROWS_AS((void)masses.kept(0, 0, 7), PreconditionError);
}

TEST_CASE("kept keys are seen from the next position as they would have been") {
  for (const RotaryPairs pairs : {RotaryPairs::halves, RotaryPairs::interleaved}) {
    const Geometry geometry = geometry_of(pairs);
    const std::size_t history = 20, keep = 5;
    std::vector<double> plain_key = {0.5, -1, 2, 0.25}, plain_query = {1, 0.75, -0.5, 2};
    std::vector<float> keys, values;
    for (Position t = 0; t < history; ++t) {
      auto key = plain_key;
      key[0] += 0.1 * t;
      reference::rotate(geometry.rotary, t, key, 4);
      for (const double value : key) keys.push_back(static_cast<float>(value));
      for (int i = 0; i < 4; ++i) values.push_back(static_cast<float>(t));
    }
    const std::vector<std::vector<std::size_t>> kept = {{2, 7, 11, 18, 19}};
    std::vector<float> left_keys(keep * 4), left_values(keep * 4);
    keep_heavy_hitters(geometry, {std::as_bytes(std::span(keys)), std::as_bytes(std::span(values))}, kept,
                       {std::as_writable_bytes(std::span(left_keys)), std::as_writable_bytes(std::span(left_values))});
    auto before = plain_query, after = plain_query;
    reference::rotate(geometry.rotary, history, before, 4);
    reference::rotate(geometry.rotary, keep, after, 4);
    for (std::size_t i = 0; i < keep; ++i) {
      double expected = 0, score = 0;
      for (std::size_t d = 0; d < 4; ++d) {
        expected += before[d] * keys[kept[0][i] * 4 + d];
        score += after[d] * left_keys[i * 4 + d];
      }
      // Keys of length 4 at most and a query of length 2.5, in float: a few roundings of 2^-24 each.
      CHECK(std::abs(score - expected) <= 16 * 10 * 0x1p-24);
      CHECK(left_values[i * 4] == static_cast<float>(kept[0][i]));
    }
  }
}

TEST_CASE("rows and keys that do not fit are the caller's mistake") {
  const Geometry geometry = geometry_of(RotaryPairs::halves);
  std::vector<std::byte> rows(10 * geometry.kv_row_bytes()), to(2 * geometry.kv_row_bytes());
  const KvRows from{rows, rows};
  const MutableKvRows target{to, to};
  using Kept = std::vector<std::vector<std::size_t>>;
  CHECK_THROWS_AS(keep_heavy_hitters(geometry, from, Kept{}, target), PreconditionError);
  CHECK_THROWS_AS(keep_heavy_hitters(geometry, from, Kept{{1, 2, 3}}, target), PreconditionError);
  CHECK_THROWS_AS(keep_heavy_hitters(geometry, from, Kept{{1, 10}}, target), PreconditionError);
}

}  // namespace
}  // namespace krul::eval
