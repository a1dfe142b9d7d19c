#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "krul/restore/restore_plan.hpp"
#include "krul/store/conversation_store.hpp"
#include "krul/store/manifest.hpp"

namespace krul {

/// What the planner has to know of a saved conversation.
/// @param history  N <= manifest.rows: leading tokens that are wanted
/// @param prompt   M >= 1
/// @complexity     O(L * blocks)
[[nodiscard]] inline RestoreSizes restore_sizes(const Manifest& manifest, std::size_t history, std::size_t prompt) {
  RestoreSizes sizes{.history = history, .prompt = prompt, .block = manifest.block, .layers = {}};
  sizes.layers.resize(manifest.layers);
  for (std::size_t layer = 0; layer < manifest.layers; ++layer) {
    for (std::size_t block = 0; block < sizes.blocks(); ++block) {
      const ChunkRecord& chunk = manifest.chunk(layer, block);
      sizes.layers[layer].block_bytes.push_back(chunk.bytes);
      sizes.layers[layer].block_object.push_back(chunk.object);
    }
  }
  return sizes;
}

/// Blocks within the first `history` tokens of which some layer is not stored, or lies in an object that is gone or too
/// short, ascending. Asks the store once per object.
template <ConversationStore S>
[[nodiscard]] std::vector<std::size_t> lost_blocks(S& store, const std::string& folder, const Manifest& manifest,
                                                   std::size_t history) {
  std::vector<std::uint64_t> there;
  for (const auto& object : manifest.objects) there.push_back(store.size(folder + "/" + object).value_or(0));
  std::vector<std::size_t> lost;
  const std::size_t blocks = (history + manifest.block - 1) / manifest.block;
  for (std::size_t block = 0; block < blocks; ++block) {
    bool gone = false;
    for (std::size_t layer = 0; layer < manifest.layers && !gone; ++layer) {
      const ChunkRecord& chunk = manifest.chunk(layer, block);
      gone = !chunk.is_stored() || chunk.offset + chunk.bytes > there[chunk.object];
    }
    if (gone) lost.push_back(block);
  }
  return lost;
}

}  // namespace krul
