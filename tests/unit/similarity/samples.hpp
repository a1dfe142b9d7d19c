#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <vector>

#include "krul/backend/attention_observer.hpp"
#include "krul/core/geometry.hpp"
#include "krul/core/half.hpp"
#include "krul/reference/similarity.hpp"
#include "krul/similarity/detail/mix.hpp"

namespace krul::test {

inline Geometry observed_geometry(std::size_t layers, std::size_t heads) {
  Geometry geometry;
  geometry.layers = layers;
  geometry.query_heads = geometry.kv_heads = heads;
  return geometry;
}

/// A conversation's attention: softmax rows with a heavy first key, whose layers resemble each other more or less.
struct Observed {
  std::size_t layers, heads, tokens;
  reference::FullAttention exact;

  Observed(std::size_t layer_count, std::size_t head_count, std::size_t token_count)
      : layers(layer_count), heads(head_count), tokens(token_count), exact(layer_count, head_count, token_count) {
    const auto random = [](std::size_t a, std::size_t b) {
      return static_cast<double>(detail::mix(detail::mix(a) ^ b) >> 11) * 0x1p-53;
    };
    for (std::size_t layer = 0; layer < layers; ++layer)
      for (std::size_t head = 0; head < heads; ++head)
        for (std::size_t query = 0; query < tokens; ++query) {
          std::vector<double> weights(query + 1);
          const double own = static_cast<double>(layer + 1) / static_cast<double>(layers);
          for (std::size_t key = 0; key <= query; ++key) {
            const std::size_t place = (head * tokens + query) * tokens + key;
            const double score = 4 * random(0, place) + 4 * own * random(layer + 1, place) + (key == 0 ? 3.0 : 0.0);
            weights[key] = std::exp(score);
          }
          const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
          // As f32, so that what the twin holds is what the estimator is given.
          for (std::size_t key = 0; key <= query; ++key)
            exact.weight(layer, head, query, key) = static_cast<double>(static_cast<float>(weights[key] / sum));
        }
  }

  [[nodiscard]] Geometry geometry() const { return observed_geometry(layers, heads); }

  /// Shows one layer's query rows [begin, end) as a backend would.
  template <class Observer>
  void show(Observer& observer, std::size_t layer, std::size_t begin, std::size_t end) {
    std::vector<Position> queries(end - begin);
    std::iota(queries.begin(), queries.end(), static_cast<Position>(begin));
    std::vector<float> weights;
    for (std::size_t head = 0; head < heads; ++head)
      for (std::size_t query = begin; query < end; ++query)
        for (std::size_t key = 0; key < end; ++key)
          weights.push_back(static_cast<float>(exact.weight(layer, head, query, key)));
    observer(AttentionBlock{layer, queries, end, heads, weights});
  }

  /// The same as a backend that writes into lent room; cells get different factors.
  template <class Observer>
  void write(Observer& observer, std::size_t layer, std::size_t begin, std::size_t end) {
    std::vector<Position> queries(end - begin);
    std::iota(queries.begin(), queries.end(), static_cast<Position>(begin));
    const LentWeights room = observer.lend(layer, queries);
    for (std::size_t row = 0; row < room.slots.size(); ++row) {
      const std::size_t slot = room.slots[row];
      if (slot == LentWeights::no_slot) continue;
      for (std::size_t head = 0; head < heads; ++head)
        for (std::size_t cell = 0; cell <= queries[row] / LentWeights::cell_keys; ++cell) {
          const std::size_t written = LentWeights::written(queries[row], cell);
          if (written == 0) continue;
          const auto to = room.cell(head, slot, cell);
          const float factor = 0.375F * static_cast<float>(cell + layer + 1);
          std::fill_n(to.bins, LentWeights::cell_bins, 0.0F);
          float largest = 0;
          for (std::size_t i = 0; i < written; ++i) {
            const std::size_t key = cell * LentWeights::cell_keys + i;
            const auto weight =
                static_cast<float>(key <= queries[row] ? exact.weight(layer, head, queries[row], key) : 0);
            largest = std::max(largest, weight);
            to.values[i] = bf16_from_float(weight / factor);
            to.bins[i / LentWeights::bin_keys] += weight;
          }
          *to.factor = largest > room.negligible ? factor : 0;
        }
    }
    observer.take(layer, queries);
  }

  /// Passes of `rows` query rows each, in lent room.
  template <class Observer>
  void write_all(Observer& observer, std::size_t begin, std::size_t end, std::size_t rows) {
    for (; begin < end; begin += rows)
      for (std::size_t layer = 0; layer < layers; ++layer) write(observer, layer, begin, std::min(end, begin + rows));
  }

  /// Passes of `rows` query rows each, whose layers come in blocks of at most `block`.
  template <class Observer>
  void show_all(Observer& observer, std::size_t begin, std::size_t end, std::size_t rows, std::size_t block = 1000) {
    for (; begin < end; begin += rows) {
      const std::size_t pass_end = std::min(end, begin + rows);
      for (std::size_t layer = 0; layer < layers; ++layer)
        for (std::size_t at = begin; at < pass_end; at += block)
          show(observer, layer, at, std::min(pass_end, at + block));
    }
  }
};

}  // namespace krul::test
