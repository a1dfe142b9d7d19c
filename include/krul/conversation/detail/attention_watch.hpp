#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "krul/backend/attention_observer.hpp"
#include "krul/similarity/attention_statistics.hpp"
#include "krul/similarity/row_attention_estimator.hpp"
#include "krul/similarity/tokenwise_similarity_estimator.hpp"
#include "krul/strategy/needs.hpp"

namespace krul::detail {

/// Watches what a strategy wants to know of attention: how alike layers look, what rows receive, or both.
class AttentionWatch {
 public:
  AttentionWatch(const Geometry& geometry, const Needs& needs)
      : geometry_(geometry), looks_at_layers_(needs.attention), bands_(needs.row_attention) {
    begin_again();
  }
  /// Forgets all that it saw, a pass that did not come to its end among it.
  void begin_again() {
    layers_.reset();
    rows_.reset();
    if (looks_at_layers_) layers_.emplace(geometry_);
    if (!bands_.empty()) rows_.emplace(geometry_, bands_);
  }
  [[nodiscard]] static bool is_needed(const Needs& needs) noexcept {
    return needs.attention || !needs.row_attention.empty();
  }

  /// Null if nobody asked.
  [[nodiscard]] const AttentionStatistics* statistics() { return layers_ ? &layers_->statistics() : nullptr; }
  [[nodiscard]] const RowAttention* row_attention() const { return rows_ ? &rows_->attention() : nullptr; }

  void load(const AttentionStatistics& earlier) {
    if (layers_) layers_->load(earlier);
  }
  void load(const RowAttention& earlier) {
    if (rows_) rows_->load(earlier);
  }
  void observe_from(Position position) {
    if (layers_) layers_->observe_from(position);
    if (rows_) rows_->observe_from(position);
  }
  void observe_until(Position end) noexcept {
    if (rows_) rows_->observe_until(end);
  }
  [[nodiscard]] std::size_t block_rows() const {
    return std::min(layers_ ? layers_->block_rows() : any_rows, rows_ ? rows_->block_rows() : any_rows);
  }
  [[nodiscard]] bool wants(Position query) const noexcept {
    return (layers_ && layers_->wants(query)) || (rows_ && rows_->wants(query));
  }

  /// Room is lent by one of them alone; both see the same blocks.
  [[nodiscard]] bool lends() const noexcept { return layers_.has_value() != rows_.has_value(); }
  [[nodiscard]] LentWeights lend(std::size_t layer, std::span<const Position> positions) {
    return rows_ ? rows_->lend(layer, positions) : layers_->lend(layer, positions);
  }
  void take(std::size_t layer, std::span<const Position> positions) {
    return rows_ ? rows_->take(layer, positions) : layers_->take(layer, positions);
  }
  /// How alike layers look is more than sums.
  [[nodiscard]] bool sums() const noexcept { return rows_ && !layers_; }
  [[nodiscard]] std::span<const float> counts(std::size_t layer, std::span<const Position> positions) {
    return rows_->counts(layer, positions);
  }
  void take_squares(std::size_t layer, std::span<const float> squares) { rows_->take_squares(layer, squares); }
  void operator()(const AttentionBlock& block) {
    if (layers_) (*layers_)(block);
    if (rows_) (*rows_)(block);
  }

 private:
  Geometry geometry_;
  bool looks_at_layers_;
  std::vector<std::size_t> bands_;
  std::optional<TokenwiseSimilarityEstimator<>> layers_;
  std::optional<RowAttentionEstimator> rows_;
};
static_assert(ForesightedObserver<AttentionWatch> && SelectiveObserver<AttentionWatch> &&
              LendingObserver<AttentionWatch> && SummingObserver<AttentionWatch>);

}  // namespace krul::detail
