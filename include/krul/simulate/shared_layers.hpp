#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/strategy/fixed_pairs.hpp"
#include "krul/strategy/layer_pair.hpp"

namespace krul::simulate {

/// L/4 pairs of neighbours in the deep half: what MiniCache merges by default.
[[nodiscard]] inline std::vector<LayerPair> adjacent_pairs(std::size_t layers) {
  const AttentionStatistics none;
  return FixedDeepPairs{}.pairs({.statistics = none, .layers = layers, .tokens = 0, .pairs = layers / 4});
}

/// Pairs (l, l + 3L/8) with l from L/4 on; (8, 20) to (15, 27) of 32 layers. They stand for a selector that does not
/// look at depth.
/// @source ours
struct DistantPairs {
  static constexpr bool looks_at_attention = false;
  [[nodiscard]] std::vector<LayerPair> pairs(const SelectionQuestion& question) const {
    const std::size_t quarter = question.layers / 4, apart = question.layers * 3 / 8;
    std::vector<LayerPair> chosen;
    for (std::size_t layer = quarter; layer < 2 * quarter && chosen.size() < question.pairs; ++layer)
      chosen.push_back({layer, layer + apart});
    return chosen;
  }
};
static_assert(SelectionPolicy<DistantPairs>);

/// L/4 of these pairs.
[[nodiscard]] inline std::vector<LayerPair> distant_pairs(std::size_t layers) {
  const AttentionStatistics none;
  return DistantPairs{}.pairs({.statistics = none, .layers = layers, .tokens = 0, .pairs = layers / 4});
}

/// Bytes of K and V of one token: in one layer, and merged for the two layers of a pair.
struct RowBytes {
  double own = 0;
  double merged = 0;
};

/// Bytes of a plan that stores only what will be loaded, in closed form: a pair's tokens from the shallow layer's
/// prefix on are stored once, merged; those that only the deep layer loads are stored as its own.
/// @param prefix  [L] tokens, in [0, history]; need not be whole blocks
/// @throws PreconditionError if a layer is in two pairs or not there, or the deep layer of a pair recomputes more
/// @source Krul, arXiv:2507.08045, sections 6.1 and 6.2, second-hand; the accounting of pairs is ours
[[nodiscard]] inline double stored_bytes(std::span<const double> prefix, std::span<const LayerPair> pairs,
                                         double history, const RowBytes& row) {
  expects_disjoint(pairs, prefix.size());
  double bytes = 0;
  for (const double tokens : prefix) bytes += (history - tokens) * row.own;
  for (const LayerPair& pair : pairs) {
    expects(prefix[pair.shallow] >= prefix[pair.deep], "stored_bytes: the deep layer of a pair recomputes no more");
    bytes += (history - prefix[pair.shallow]) * (row.merged - 2 * row.own);
  }
  return bytes;
}

}  // namespace krul::simulate
