#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "krul/compress/coding_numbers.hpp"
#include "krul/restore/restore_plan.hpp"
#include "krul/store/shared_chunks.hpp"

namespace krul {

/// Which chunk: those of layers that share one are equal but for this.
struct ChunkPlace {
  std::size_t layer = 0;
  std::size_t block = 0;
};

/// Chunks that lie side by side in one object: read with one call, up to most_request_bytes.
struct ReadRequest {
  std::vector<ChunkPlace> chunks;  ///< in the order of their bytes
  std::uint32_t object = 0;        ///< index into Manifest::objects
  std::uint64_t offset = 0;        ///< bytes
  std::uint64_t bytes = 0;
};

/// The largest request for chunks of a coding.
[[nodiscard]] constexpr std::uint64_t most_request_bytes(std::uint8_t codec) noexcept {
  return is_joint(codec) ? largest_group_request : largest_request;
}

/// Adds a chunk to the last request if it lies right behind it, or begins a new one.
inline void append_read(std::vector<ReadRequest>& requests, const Manifest& manifest, ChunkPlace place, bool may_join) {
  const ChunkRecord& chunk = manifest.chunk(place.layer, place.block);
  if (may_join && !requests.empty()) {
    ReadRequest& last = requests.back();
    const ChunkRecord& before = manifest.chunk(last.chunks.back().layer, last.chunks.back().block);
    if (last.object == chunk.object && last.offset + last.bytes == chunk.offset && before.codec == chunk.codec &&
        last.bytes + chunk.bytes <= most_request_bytes(chunk.codec)) {
      last.chunks.push_back(place);
      last.bytes += chunk.bytes;
      return;
    }
  }
  requests.push_back({{place}, chunk.object, chunk.offset, chunk.bytes});
}

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
    bool may_join = false;  // requests of different layers stay apart: a layer waits for its own only
    for (std::size_t block = (plan.prefix[layer] + plan.block - 1) / plan.block; block < blocks; ++block) {
      const std::int32_t other = shared.shallower(layer, block);
      const bool read_before = other >= 0 && block * plan.block >= plan.prefix[static_cast<std::size_t>(other)];
      if (read_before || std::binary_search(lost_blocks.begin(), lost_blocks.end(), block)) {
        may_join = false;
        continue;
      }
      append_read(requests, manifest, {layer, block}, may_join);
      may_join = true;
    }
  }
  return requests;
}

/// The reads of whole blocks, all layers of each, from the last block down to `first_block`.
/// @complexity O(L * blocks * log L)
[[nodiscard]] inline std::vector<ReadRequest> read_requests_backwards(const Manifest& manifest, std::size_t first_block,
                                                                      std::size_t blocks,
                                                                      const std::vector<std::size_t>& lost_blocks) {
  std::vector<ReadRequest> requests;
  const SharedChunks shared(manifest, blocks);
  for (std::size_t block = blocks; block-- > first_block;) {
    if (std::binary_search(lost_blocks.begin(), lost_blocks.end(), block)) continue;
    bool may_join = false;  // requests end with their block: it counts once all of it is there
    for (std::size_t layer = 0; layer < manifest.layers; ++layer) {
      if (shared.shallower(layer, block) >= 0) continue;
      append_read(requests, manifest, {layer, block}, may_join);
      may_join = true;
    }
  }
  return requests;
}

}  // namespace krul
