#pragma once

#include <random>

#include "krul/core/half.hpp"
#include "krul/eval/history_coder.hpp"

namespace krul::testing {

/// Small enough to code in no time, wide enough that a row has a whole block of 32 and a rest.
[[nodiscard]] inline Geometry history_geometry() {
  return {.layers = 2,
          .query_heads = 2,
          .kv_heads = 2,
          .head_dim = 20,
          .hidden = 40,
          .vocabulary = 8,
          .context = 512,
          .cache_type = ElementType::f16,
          .rotary = {.pairs = RotaryPairs::halves, .dimensions = 20, .base = 100.0}};
}

/// Normal values, each channel with a size and an offset of its own, in numbers that f16 has.
[[nodiscard]] inline eval::HistoryRows history_rows(const Geometry& geometry, std::size_t tokens, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  eval::HistoryRows rows(geometry, tokens);
  for (auto* tensor : {&rows.keys, &rows.values})
    for (auto& layer : *tensor)
      for (std::size_t i = 0; i < layer.size(); ++i) {
        const auto channel = static_cast<double>(i % geometry.kv_values());
        const double value = (1 + channel / 8) * normal(random) + channel / 4 - 5;
        layer[i] = float_from_f16(f16_from_float(static_cast<float>(value)));
      }
  return rows;
}

}  // namespace krul::testing
