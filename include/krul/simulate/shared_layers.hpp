#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/restore/restore_plan.hpp"

namespace krul::simulate {

/// Two layers whose K and V are stored once, merged, where both are stored.
struct LayerPair {
  std::size_t shallow = 0;
  std::size_t deep = 0;
  friend bool operator==(const LayerPair&, const LayerPair&) = default;
};

/// L/4 pairs of neighbours in the deep half: what MiniCache merges by default.
/// @source MiniCache, arXiv:2405.14366; second-hand
[[nodiscard]] inline std::vector<LayerPair> adjacent_deep_pairs(std::size_t layers) {
  std::vector<LayerPair> pairs;
  for (std::size_t shallow = layers / 2; shallow + 1 < layers; shallow += 2) pairs.push_back({shallow, shallow + 1});
  return pairs;
}

/// L/4 pairs (l, l + 3L/8) with l from L/4 on; (8, 20) to (15, 27) of 32 layers. They stand for a selector that
/// does not look at depth.
/// @source ours
[[nodiscard]] inline std::vector<LayerPair> distant_pairs(std::size_t layers) {
  std::vector<LayerPair> pairs;
  for (std::size_t i = 0; i < layers / 4; ++i) pairs.push_back({layers / 4 + i, layers / 4 + i + layers * 3 / 8});
  return pairs;
}

/// Bytes of K and V of one token: in one layer, and merged for the two layers of a pair.
struct RowBytes {
  double own = 0;
  double merged = 0;
};

/// Bytes of a plan that stores only what will be loaded: a pair's tokens from the shallow layer's prefix on are stored
/// once, merged; those that only the deep layer loads are stored as its own.
/// @param prefix  [L] tokens, in [0, history]; need not be whole blocks
/// @throws PreconditionError if a pair has p_shallow < p_deep or names a layer that is not there
/// @source Krul, arXiv:2507.08045, sections 6.1 and 6.2, second-hand; the accounting of pairs is ours
[[nodiscard]] inline double stored_bytes(std::span<const double> prefix, std::span<const LayerPair> pairs,
                                         double history, const RowBytes& row) {
  double bytes = 0;
  for (const double tokens : prefix) bytes += (history - tokens) * row.own;
  for (const LayerPair& pair : pairs) {
    expects(pair.shallow < pair.deep && pair.deep < prefix.size() && prefix[pair.shallow] >= prefix[pair.deep],
            "stored_bytes: a pair is a shallow and a deep layer, and the deep one recomputes no more");
    bytes += (history - prefix[pair.shallow]) * (row.merged - 2 * row.own);
  }
  return bytes;
}

/// The same as sizes for the planner. What a pair stores once is read with the shallow layer, which comes first; so
/// these sizes hold for this prefix only.
/// @param prefix  [L] tokens, admissible
/// @throws PreconditionError as stored_bytes
[[nodiscard]] inline RestoreSizes shared_sizes(RestoreSizes sizes, std::span<const std::size_t> prefix,
                                               std::span<const LayerPair> pairs, const RowBytes& row) {
  expects(prefix.size() == sizes.layers.size(), "shared_sizes: one prefix for each layer");
  const auto fill = [&](std::size_t layer, std::size_t from, double bytes) {
    StoredLayer& stored = sizes.layers[layer];
    stored.block_bytes.resize(sizes.blocks());
    stored.block_object.assign(sizes.blocks(), 0);
    for (std::size_t block = 0; block < sizes.blocks(); ++block) {
      const std::size_t begin = block * sizes.block, end = std::min(begin + sizes.block, sizes.history);
      if (begin >= from)
        stored.block_bytes[block] = static_cast<std::uint64_t>(static_cast<double>(end - begin) * bytes);
    }
  };
  for (std::size_t layer = 0; layer < sizes.layers.size(); ++layer) fill(layer, 0, row.own);
  for (const LayerPair& pair : pairs) {
    expects(pair.shallow < pair.deep && pair.deep < prefix.size() && prefix[pair.shallow] >= prefix[pair.deep],
            "shared_sizes: a pair is a shallow and a deep layer, and the deep one recomputes no more");
    fill(pair.shallow, prefix[pair.shallow], row.merged);
    fill(pair.deep, prefix[pair.shallow], 0);
  }
  return sizes;
}

}  // namespace krul::simulate
