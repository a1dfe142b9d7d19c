#pragma once

#include <concepts>
#include <cstddef>
#include <limits>
#include <span>

#include "krul/backend/attention_observer.hpp"
#include "krul/core/tokens.hpp"

namespace krul {

/// One query's attention weights in one layer and head.
struct AttentionRow {
  std::size_t layer = 0;
  std::size_t head = 0;
  Position query = 0;
  std::span<const float> weights;  ///< of keys 0, 1, ...: at least query + 1; what follows is 0
};

/// Compares the layers' attention weights, flattened over heads and query rows, as they come.
///
/// Rows come layer after layer, each layer's in the same order. A metric takes them in, says by `end_block` that a run
/// of rows of a layer is complete, and gives the squared Euclidean distances of what it has seen since the last time.
template <class M>
concept SimilarityMetric = requires(M& metric, const M& read, const AttentionRow& row, std::size_t layer, Position next,
                                    std::span<double> squared) {
  { metric.add(row) } -> std::same_as<void>;
  { metric.end_block(layer) } -> std::same_as<void>;
  /// Adds to [L, L] the squared distances over all rows of complete passes, and forgets the rows.
  { metric.collect(squared) } -> std::same_as<void>;
  /// Most query rows that should pass through the layers together, when the first is at `next`.
  { read.block_rows(next) } -> std::same_as<std::size_t>;
  /// Memory that it holds for weights.
  { read.bytes() } -> std::same_as<std::size_t>;
};

/// A metric that has room for weights which the backend writes by itself.
template <class M>
concept LendingMetric = SimilarityMetric<M> &&
    requires(M& metric, std::size_t layer, std::span<const Position> queries, std::span<double> mass) {
  /// Room for the rows of these queries, but for the slots; end_block says that they are written.
  { metric.lend(layer, queries) } -> std::same_as<LentWeights>;
  /// Adds to [L, bins of AttentionStatistics] the masses of the rows that were written, and forgets them.
  { metric.collect_masses(mass) } -> std::same_as<void>;
};

/// block_rows of a metric that does not mind.
inline constexpr std::size_t any_rows = std::numeric_limits<std::size_t>::max();

}  // namespace krul
