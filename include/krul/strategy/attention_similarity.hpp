#pragma once

#include <algorithm>
#include <numeric>

#include "krul/strategy/selection_policy.hpp"

namespace krul {

/// The paper's choice: layers whose attention stays on the two ends of the sequence may share, and of those the ones
/// whose attention weights are closest, pair by pair.
///
/// A layer is sensitive to the input, and is left alone, if its heads and query rows pay less than `threshold` of their
/// attention to the first and the last tenth of the keys. If fewer layers than the pairs need are left, the ones with
/// the largest such share are taken.
/// @source Krul, arXiv:2507.08045, section 5; second-hand. The threshold, the mean over rows and heads, and what
///         happens when too few layers qualify are ours
class AttentionSimilarity {
 public:
  /// @throws PreconditionError unless 0 <= threshold <= 1
  explicit AttentionSimilarity(double threshold = 0.5) : threshold_(threshold) {
    expects(threshold >= 0 && threshold <= 1, "AttentionSimilarity: the threshold is a share of the attention");
  }

  /// @throws PreconditionError if the statistics are of another number of layers
  [[nodiscard]] std::vector<LayerPair> pairs(const SelectionQuestion& question) const {
    return greedy_pairs(question.statistics.squared, candidates(question), question.pairs);
  }

  /// [L] which layers may share.
  /// @throws PreconditionError if the statistics are of another number of layers
  [[nodiscard]] std::vector<bool> candidates(const SelectionQuestion& question) const {
    expects(question.statistics.layers == question.layers, "AttentionSimilarity: statistics of another model, or none");
    std::vector<double> share(question.layers);
    for (std::size_t layer = 0; layer < share.size(); ++layer)
      share[layer] = question.statistics.edge_mass(layer, question.tokens);
    std::vector<std::size_t> order(share.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return share[a] > share[b]; });
    std::vector<bool> chosen(share.size(), false);
    for (std::size_t i = 0; i < order.size(); ++i)
      chosen[order[i]] = i < 2 * question.pairs || share[order[i]] >= threshold_;
    return chosen;
  }

 private:
  double threshold_;
};
static_assert(SelectionPolicy<AttentionSimilarity>);

}  // namespace krul
