#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "krul/restore/restore_plan.hpp"
#include "krul/store/manifest.hpp"

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

/// The reads of a plan, in the order in which the layers need them.
/// @param lost_blocks  ascending; blocks that are not to be read
/// @complexity         O(L * blocks)
[[nodiscard]] inline std::vector<ReadRequest> read_requests(const RestorePlan& plan, const Manifest& manifest,
                                                            const std::vector<std::size_t>& lost_blocks) {
  std::vector<ReadRequest> requests;
  const std::size_t blocks = (plan.history + plan.block - 1) / plan.block;
  for (std::size_t layer = 0; layer < plan.prefix.size(); ++layer) {
    for (std::size_t block = (plan.prefix[layer] + plan.block - 1) / plan.block; block < blocks; ++block) {
      if (std::binary_search(lost_blocks.begin(), lost_blocks.end(), block)) continue;
      const ChunkRecord& chunk = manifest.chunk(layer, block);
      if (!requests.empty()) {
        ReadRequest& last = requests.back();
        if (last.layer == layer && last.first_block + last.blocks == block && last.object == chunk.object &&
            last.offset + last.bytes == chunk.offset && last.bytes + chunk.bytes <= largest_request) {
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
