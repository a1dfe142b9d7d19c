#pragma once

#include <concepts>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "krul/similarity/attention_statistics.hpp"
#include "krul/strategy/layer_pair.hpp"

namespace krul {

/// What a policy decides from.
struct SelectionQuestion {
  const AttentionStatistics& statistics;  ///< of this conversation; may be empty for policies that do not look at it
  std::size_t layers = 0;                 ///< L
  std::size_t tokens = 0;                 ///< length of the conversation
  std::size_t pairs = 0;                  ///< how many are wanted: the budget
  std::span<const double> unpredictability = {};  ///< [L, L] how badly layers' rows predict each other's; may be empty
};

/// Decides which layers are coded together.
///
/// pairs(question) -> at most question.pairs disjoint pairs. Pure: the same question gives the same answer.
template <class P>
concept SelectionPolicy = requires(const P& policy, const SelectionQuestion& question) {
  { policy.pairs(question) } -> std::same_as<std::vector<LayerPair>>;
};

/// Pairs in ascending order of distance, each layer in one pair at most, until there are enough.
/// @param distance    [L, L], of which the upper triangle is looked at
/// @param candidates  [L] layers that may be paired
/// @complexity        O(L^2 log L)
/// @source Krul, arXiv:2507.08045, section 5; second-hand. Ties go to the shallower pair: ours
[[nodiscard]] inline std::vector<LayerPair> greedy_pairs(std::span<const double> distance,
                                                         const std::vector<bool>& candidates, std::size_t wanted) {
  const std::size_t layers = candidates.size();
  expects(distance.size() == layers * layers, "greedy_pairs: the distances must be [L, L]");
  std::vector<LayerPair> order;
  for (std::size_t i = 0; i < layers; ++i)
    for (std::size_t j = i + 1; j < layers; ++j)
      if (candidates[i] && candidates[j]) order.push_back({i, j});
  std::stable_sort(order.begin(), order.end(), [&](const LayerPair& a, const LayerPair& b) {
    return distance[a.shallow * layers + a.deep] < distance[b.shallow * layers + b.deep];
  });
  std::vector<bool> used(layers, false);
  std::vector<LayerPair> chosen;
  for (const LayerPair& pair : order) {
    if (chosen.size() == wanted) break;
    if (used[pair.shallow] || used[pair.deep]) continue;
    used[pair.shallow] = used[pair.deep] = true;
    chosen.push_back(pair);
  }
  return chosen;
}

}  // namespace krul
