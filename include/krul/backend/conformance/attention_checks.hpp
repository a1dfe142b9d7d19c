#pragma once

#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "krul/backend/conformance/pass.hpp"

namespace krul::conformance {

/// An AttentionObserver that checks each block by itself and counts who was seen.
class WeightsAudit {
 public:
  /// @param roundoff  unit roundoff of one weight
  WeightsAudit(const Geometry& geometry, double roundoff) : geometry_(geometry), roundoff_(roundoff) {}

  /// @throws Broken if the block is not as its documentation says
  void operator()(const AttentionBlock& block) {
    const std::size_t rows = block.queries.size(), keys = block.keys;
    require(block.layer < geometry_.layers, "a block names a layer that does not exist");
    require(block.query_heads == geometry_.query_heads, "a block does not have the geometry's query heads");
    require(block.weights.size() == block.query_heads * rows * keys, "weights are not [H, R, K]");
    for (const Position query : block.queries) {
      require(query < keys, "a row's own key is not among the block's keys");
      ++seen_[{block.layer, query}];
    }
    // A sum of K rounded terms, none negative and all together about 1, is off by at most K u from adding them up here
    // and in the model, and by one rounding of each weight.
    const double allowed = 2 * (static_cast<double>(keys) * 0x1p-24 + roundoff_);
    for (std::size_t row = 0; row < block.query_heads * rows; ++row) {
      const auto weights = block.weights.subspan(row * keys, keys);
      const std::size_t visible = block.queries[row % rows] + std::size_t{1};
      double sum = 0;
      for (std::size_t key = 0; key < keys; ++key) {
        require(weights[key] >= 0, "a weight is negative or not a number");
        require(key < visible || weights[key] == 0, "a weight is not 0 where causality forbids to look");
        sum += weights[key];
      }
      require(std::abs(sum - 1) <= allowed, "a row's weights sum to " + std::to_string(sum));
    }
  }

  /// @throws Broken unless every query in [0, tokens) of every layer was seen once
  void require_complete(std::size_t tokens) const {
    for (std::size_t layer = 0; layer < geometry_.layers; ++layer)
      for (Position query = 0; query < tokens; ++query) {
        const auto found = seen_.find({layer, query});
        const std::size_t times = found == seen_.end() ? 0 : found->second;
        require(times == 1, "row " + std::to_string(query) + " of layer " + std::to_string(layer) + " was seen " +
                                std::to_string(times) + " times");
      }
    require(seen_.size() == geometry_.layers * tokens, "rows were seen that are not in the batch");
  }

 private:
  const Geometry& geometry_;
  double roundoff_;
  std::map<std::pair<std::size_t, Position>, std::size_t> seen_;
};
static_assert(AttentionObserver<WeightsAudit>);

/// What an observer sees, and that it changes nothing.
template <ModelBackend B>
void check_attention(const Trial<B>& trial, double weight_roundoff, ConformanceReport& report) {
  report.add("observer: sees every row of every layer once, causal and summing to 1, and changes nothing", [&] {
    const std::size_t count = trial.tokens.size(), vocabulary = trial.geometry.vocabulary, first = count - count / 3;
    auto session = start(trial.model, count);
    WeightsAudit audit(trial.geometry, weight_roundoff);
    std::vector<float> logits(count * vocabulary);
    const auto tokens = std::span(trial.tokens);
    const auto out = std::span(logits);
    forward(trial.model, session.cache, session.batch, tokens.first(first), out.first(first * vocabulary), audit);
    forward(trial.model, session.cache, session.batch, tokens.subspan(first), out.subspan(first * vocabulary), audit);
    audit.require_complete(count);
    return trial.measured(trial.require_logits(logits, trial.positions({0, count}), "with and without an observer"));
  });
}

}  // namespace krul::conformance
