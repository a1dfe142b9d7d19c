#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "krul/store/manifest.hpp"

namespace krul {

/// Which layers of a saved conversation have chunks in common. A chunk that several layers were coded into has a record
/// in each of them, all equal.
class SharedChunks {
 public:
  /// @param blocks  leading blocks that matter
  /// @complexity    O(L * blocks * log L)
  SharedChunks(const Manifest& manifest, std::size_t blocks)
      : blocks_(blocks), shallower_(manifest.layers * blocks, -1) {
    std::map<std::pair<std::uint32_t, std::uint64_t>, std::size_t> seen;  // place -> deepest layer so far
    for (std::size_t block = 0; block < blocks; ++block) {
      seen.clear();
      for (std::size_t layer = 0; layer < manifest.layers; ++layer) {
        const ChunkRecord& chunk = manifest.chunk(layer, block);
        if (!chunk.is_stored()) continue;
        const auto [place, is_first] = seen.try_emplace({chunk.object, chunk.offset}, layer);
        if (is_first) continue;
        shallower_[layer * blocks + block] = static_cast<std::int32_t>(std::exchange(place->second, layer));
      }
    }
  }

  /// The nearest shallower layer with the same chunk, or -1.
  [[nodiscard]] std::int32_t shallower(std::size_t layer, std::size_t block) const {
    return shallower_[layer * blocks_ + block];
  }

  /// [blocks] of one layer; empty if it shares nothing.
  [[nodiscard]] std::vector<std::int32_t> row(std::size_t layer) const {
    const auto begin = shallower_.begin() + static_cast<std::ptrdiff_t>(layer * blocks_);
    const auto end = begin + static_cast<std::ptrdiff_t>(blocks_);
    for (auto at = begin; at != end; ++at)
      if (*at >= 0) return {begin, end};
    return {};
  }

 private:
  std::size_t blocks_;
  std::vector<std::int32_t> shallower_;
};

/// All layers that were coded into the chunk of this layer and block, ascending.
/// @complexity O(L)
[[nodiscard]] inline std::vector<std::size_t> layers_of_chunk(const Manifest& manifest, std::size_t layer,
                                                              std::size_t block) {
  const ChunkRecord& chunk = manifest.chunk(layer, block);
  std::vector<std::size_t> layers;
  for (std::size_t other = 0; other < manifest.layers; ++other) {
    const ChunkRecord& candidate = manifest.chunk(other, block);
    if (candidate.is_stored() && candidate.object == chunk.object && candidate.offset == chunk.offset)
      layers.push_back(other);
  }
  return layers;
}

}  // namespace krul
