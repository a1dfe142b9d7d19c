#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "krul/backend/attention_observer.hpp"
#include "krul/core/geometry.hpp"
#include "krul/similarity/attention_statistics.hpp"
#include "krul/similarity/detail/bin_masses.hpp"
#include "krul/similarity/detail/mix.hpp"
#include "krul/similarity/exact_gram.hpp"
#include "krul/similarity/similarity_metric.hpp"

namespace krul {

/// Gathers a conversation's AttentionStatistics while the model runs: give it to forward as observer, in pieces of at
/// most block_rows() tokens (observed_prefill does), and to every decode step.
///
/// Its state is an AttentionStatistics: save that with the conversation, load it when the conversation is resumed.
/// @source second-hand: token-wise, prefill beside the forward pass, decode rows compared and dropped each step
template <SimilarityMetric Metric = ExactGram>
class TokenwiseSimilarityEstimator {
 public:
  /// @param every  1 counts all query rows; s counts one of each s neighbours, drawn by a hash, s times: unbiased too,
  ///               and the backend need not show the others
  /// @throws PreconditionError if every is 0, or as the metric's constructor
  TokenwiseSimilarityEstimator(const Geometry& geometry, Metric metric, std::size_t every = 1)
      : metric_(std::move(metric)), statistics_(geometry.layers, geometry.query_heads), every_(every) {
    expects(every > 0, "TokenwiseSimilarityEstimator: one of no rows cannot be counted");
  }
  explicit TokenwiseSimilarityEstimator(const Geometry& geometry)
      : TokenwiseSimilarityEstimator(geometry, Metric(geometry)) {}

  /// Goes on from the statistics of earlier rows; they are added to what is there.
  /// @throws PreconditionError if they are of another number of layers or heads
  void load(const AttentionStatistics& earlier) { statistics_.add(earlier); }

  /// Counts only query rows from `position` on: rows of restored history were counted when they were new.
  void observe_from(Position position) noexcept { first_ = next_ = position; }

  /// True if the row of this query is counted.
  [[nodiscard]] bool wants(Position query) const noexcept {
    return query >= first_ && (every_ == 1 || detail::mix(query / every_) % every_ == query % every_);
  }

  /// Most tokens of the next piece of a prefill.
  [[nodiscard]] std::size_t block_rows() const {
    const std::size_t rows = metric_.block_rows(next_);
    return rows > any_rows / every_ ? any_rows : rows * every_;
  }

  /// Whether backends may write weights into the metric's room instead of showing them.
  [[nodiscard]] static constexpr bool lends() noexcept { return LendingMetric<Metric>; }

  /// @param positions  [R] of a layer's rows
  /// @throws PreconditionError as the metric's lend
  [[nodiscard]] LentWeights lend(std::size_t layer,
                                 std::span<const Position> positions) requires LendingMetric<Metric> {
    slots_.clear();
    wanted_queries_.clear();
    for (const Position query : positions) {
      const bool wanted = wants(query);
      slots_.push_back(wanted ? static_cast<std::uint32_t>(wanted_queries_.size()) : LentWeights::no_slot);
      if (wanted) wanted_queries_.push_back(query);
    }
    if (layer == 0 && !positions.empty()) next_ = std::max(next_, positions.back() + 1);
    if (wanted_queries_.empty()) return {};
    LentWeights room = metric_.lend(layer, wanted_queries_);
    room.slots = slots_;
    return room;
  }
  /// The rows that were lent room last are written.
  /// @throws PreconditionError as the metric's end_block
  void take(std::size_t layer, std::span<const Position>) requires LendingMetric<Metric> {
    if (wanted_queries_.empty()) return;
    if (layer == 0) {
      statistics_.reserve_keys(wanted_queries_.back() + std::size_t{1});
      statistics_.rows += wanted_queries_.size() * every_;
    }
    metric_.end_block(layer);
  }

  /// @throws PreconditionError if the block has another shape than the model, or as the metric's add
  void operator()(const AttentionBlock& block) {
    const std::size_t rows = block.queries.size();
    expects(block.layer < statistics_.layers && block.query_heads == statistics_.query_heads,
            "TokenwiseSimilarityEstimator: a block of another model");
    expects(block.weights.size() == block.query_heads * rows * block.keys &&
                (rows == 0 || block.queries.back() < block.keys),
            "TokenwiseSimilarityEstimator: the block's weights do not belong to its rows and keys");
    if (block.layer == 0 && rows > 0) next_ = std::max(next_, block.queries.back() + 1);
    wanted_.clear();
    for (std::size_t r = 0; r < rows; ++r)
      if (wants(block.queries[r])) wanted_.push_back(r);
    if (wanted_.empty()) return;
    detail::BinMasses masses(block.keys, bins_);
    for (std::size_t head = 0; head < block.query_heads; ++head)
      for (const std::size_t r : wanted_) {
        const Position query = block.queries[r];
        // Whole vectors are read where zeros follow.
        const std::size_t count = std::min(block.keys, (query + std::size_t{1} + row_unit - 1) / row_unit * row_unit);
        const auto weights = block.weights.subspan((head * rows + r) * block.keys, count);
        masses.add(weights);
        metric_.add({block.layer, head, query, weights});
      }
    statistics_.reserve_keys(block.keys);
    masses.add_to(std::span(statistics_.mass).subspan(block.layer * statistics_.bins(), statistics_.bins()),
                  static_cast<double>(every_));
    if (block.layer == 0) statistics_.rows += wanted_.size() * every_;
    metric_.end_block(block.layer);
  }

  /// All so far, with what was loaded. Finishes what is in flight; between passes.
  /// @throws PreconditionError in the middle of a pass, if the metric cannot stop there
  [[nodiscard]] const AttentionStatistics& statistics() {
    std::vector<double> squared(statistics_.squared.size());
    metric_.collect(squared);
    for (std::size_t i = 0; i < squared.size(); ++i) statistics_.squared[i] += static_cast<double>(every_) * squared[i];
    if constexpr (LendingMetric<Metric>) {
      std::vector<double> mass(statistics_.mass.size());
      metric_.collect_masses(mass);
      for (std::size_t i = 0; i < mass.size(); ++i) statistics_.mass[i] += static_cast<double>(every_) * mass[i];
    }
    return statistics_;
  }

  [[nodiscard]] const Metric& metric() const noexcept { return metric_; }

 private:
  static constexpr std::size_t row_unit = 32;

  Metric metric_;
  AttentionStatistics statistics_;
  std::size_t every_;
  std::vector<std::size_t> wanted_;       // rows of a block
  std::vector<Position> wanted_queries_;  // that were lent room
  std::vector<std::uint32_t> slots_;
  std::vector<float> bins_;
  Position first_ = 0;  // first row that counts
  Position next_ = 0;   // row after the last one seen
};
/// The estimator to use where about 1 % of a prefill is all that it may cost: exact distances of one of each 16 rows.
/// docs/paper.md, "Watching attention", compares it with sketches and other shares.
[[nodiscard]] inline TokenwiseSimilarityEstimator<ExactGram> sampled_similarity_estimator(const Geometry& geometry) {
  return {geometry, ExactGram(geometry), 16};
}

static_assert(SelectiveObserver<TokenwiseSimilarityEstimator<ExactGram>>);
static_assert(LendingObserver<TokenwiseSimilarityEstimator<ExactGram>>);

}  // namespace krul
