#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "krul/restore/restore_plan.hpp"
#include "krul/store/shared_chunks.hpp"

namespace krul {

/// Neighbouring chunks of one layer that lie side by side in one object: read with one call, up to largest_request.
struct ReadRequest {
  std::size_t layer = 0;
  std::size_t first_block = 0;
  std::size_t blocks = 0;
  std::uint32_t object = 0;  ///< index into Manifest::objects
  std::uint64_t offset = 0;  ///< bytes
  std::uint64_t bytes = 0;
};

/// The reads of a plan, in the order in which the layers need them; a chunk that layers share is read once, with the
/// shallowest that needs it.
/// @param lost_blocks  ascending; blocks that are not to be read
/// @complexity         O(L * blocks * log L)
[[nodiscard]] inline std::vector<ReadRequest> read_requests(const RestorePlan& plan, const Manifest& manifest,
                                                            const std::vector<std::size_t>& lost_blocks) {
  std::vector<ReadRequest> requests;
  const std::size_t blocks = (plan.history + plan.block - 1) / plan.block;
  const SharedChunks shared(manifest, blocks);
  for (std::size_t layer = 0; layer < plan.prefix.size(); ++layer) {
    for (std::size_t block = (plan.prefix[layer] + plan.block - 1) / plan.block; block < blocks; ++block) {
      if (std::binary_search(lost_blocks.begin(), lost_blocks.end(), block)) continue;
      const std::int32_t other = shared.shallower(layer, block);
      if (other >= 0 && block * plan.block >= plan.prefix[static_cast<std::size_t>(other)]) continue;
      const ChunkRecord& chunk = manifest.chunk(layer, block);
      if (!requests.empty()) {
        ReadRequest& last = requests.back();
        if (last.layer == layer && last.first_block + last.blocks == block && last.object == chunk.object &&
            last.offset + last.bytes == chunk.offset && manifest.chunk(layer, block - 1).codec == chunk.codec &&
            last.bytes + chunk.bytes <= largest_request) {
          ++last.blocks;
          last.bytes += chunk.bytes;
          continue;
        }
      }
      requests.push_back({layer, block, 1, chunk.object, chunk.offset, chunk.bytes});
    }
  }
  return requests;
}

}  // namespace krul
