#pragma once

#include <cstdint>
#include <numeric>
#include <optional>

#include "krul/strategy/selection_policy.hpp"

namespace krul {

/// Every layer by itself.
struct NoSharing {
  static constexpr bool looks_at_attention = false;
  [[nodiscard]] std::vector<LayerPair> pairs(const SelectionQuestion&) const { return {}; }
};
static_assert(SelectionPolicy<NoSharing>);

/// Neighbouring layers of the deeper half, from the middle up, whatever the conversation.
/// @source MiniCache, arXiv:2405.14366; second-hand
struct FixedDeepPairs {
  static constexpr bool looks_at_attention = false;
  [[nodiscard]] std::vector<LayerPair> pairs(const SelectionQuestion& question) const {
    std::vector<LayerPair> chosen;
    for (std::size_t layer = question.layers / 2; layer + 1 < question.layers && chosen.size() < question.pairs;
         layer += 2)
      chosen.push_back({layer, layer + 1});
    return chosen;
  }
};
static_assert(SelectionPolicy<FixedDeepPairs>);

/// Pairs drawn at random, the same for the same seed: what any criterion has to beat.
/// @source ours
class RandomPairs {
 public:
  /// Others for each length of a conversation.
  RandomPairs() = default;
  explicit RandomPairs(std::uint64_t seed) : seed_(seed) {}

  static constexpr bool looks_at_attention = false;

  [[nodiscard]] std::vector<LayerPair> pairs(const SelectionQuestion& question) const {
    std::vector<std::size_t> order(question.layers);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::uint64_t state = seed_.value_or(question.tokens);
    for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[next(state) % i]);
    std::vector<LayerPair> chosen;
    for (std::size_t i = 0; i + 1 < order.size() && chosen.size() < question.pairs; i += 2)
      chosen.push_back({std::min(order[i], order[i + 1]), std::max(order[i], order[i + 1])});
    return chosen;
  }

 private:
  /// splitmix64
  static std::uint64_t next(std::uint64_t& state) {
    std::uint64_t z = state += 0x9e3779b97f4a7c15U;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
  }

  std::optional<std::uint64_t> seed_;
};
static_assert(SelectionPolicy<RandomPairs>);

/// The closest pairs by distances that were found otherwise, such as how badly one layer's rows predict another's.
/// @source ours
class PairsByDistance {
 public:
  /// @param distance  [L, L]
  explicit PairsByDistance(std::vector<double> distance) : distance_(std::move(distance)) {}

  static constexpr bool looks_at_attention = false;

  /// @throws PreconditionError if the distances are of another number of layers
  [[nodiscard]] std::vector<LayerPair> pairs(const SelectionQuestion& question) const {
    return greedy_pairs(distance_, std::vector<bool>(question.layers, true), question.pairs);
  }

 private:
  std::vector<double> distance_;
};
static_assert(SelectionPolicy<PairsByDistance>);

/// The pairs whose rows predict each other best.
/// @source ours
struct PredictablePairs {
  static constexpr bool looks_at_attention = false;
  static constexpr bool looks_at_predictability = true;
  /// @throws PreconditionError if nobody measured how well this model's layers predict each other
  [[nodiscard]] std::vector<LayerPair> pairs(const SelectionQuestion& question) const {
    return greedy_pairs(question.unpredictability, std::vector<bool>(question.layers, true), question.pairs);
  }
};
static_assert(SelectionPolicy<PredictablePairs>);

}  // namespace krul
