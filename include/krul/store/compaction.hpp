#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/store/conversation_store.hpp"
#include "krul/store/segment.hpp"

namespace krul {

/// What a compaction did, and what it came across.
struct Compaction {
  std::uint64_t bytes = 0;                  ///< that were written
  std::vector<std::size_t> damaged_blocks;  ///< ascending: some chunk of theirs is not what was written
};

/// Moves the chunks that are still needed out of objects that mostly are not: an object is given up once more than a
/// quarter of its bytes belong to no chunk. Chunks are moved as they are, not coded again. Borrowed objects stay.
///
/// It is housekeeping and cannot fail: an object that cannot be read whole stays where it is, and so do all if the new
/// one cannot be written. Call it under the folder's lock, before the manifest is published: the new object is put, the
/// old ones stay until collect_garbage.
/// @post   the objects that the manifest names are at least three quarters chunks, but for those that stay
template <ConversationStore S>
Compaction compact_objects(S& store, const std::string& folder, Manifest& manifest) {
  using Place = std::pair<std::uint32_t, std::uint64_t>;
  std::map<Place, std::size_t> chunks;  // the first record of each
  for (std::size_t i = 0; i < manifest.chunks.size(); ++i) {
    const ChunkRecord& chunk = manifest.chunks[i];
    if (chunk.is_stored() && !is_borrowed(manifest.objects[chunk.object]))
      chunks.try_emplace({chunk.object, chunk.offset}, i);
  }

  Compaction done;
  const auto is_damaged = [&](std::size_t chunk) { done.damaged_blocks.push_back(chunk % manifest.blocks()); };
  std::vector<std::byte> moved;
  std::map<Place, std::uint64_t> offsets;
  for (auto first = chunks.begin(); first != chunks.end();) {
    const std::uint32_t object = first->first.first;
    const auto last = chunks.lower_bound({object + 1, 0});
    const std::string key = folder + "/" + manifest.objects[object];
    const auto size = store.size(key);
    const bool is_sized = size || size.error().code == ErrorCode::not_found;
    std::uint64_t live = 0;
    bool whole = is_sized;
    for (auto at = first; at != last; ++at) {
      const ChunkRecord& chunk = manifest.chunks[at->second];
      live += chunk.bytes;
      if (!is_sized || chunk.offset + chunk.bytes <= size.value_or(0)) continue;
      is_damaged(at->second);
      whole = false;
    }
    if (whole && live < *size && (*size - live) > *size / 4) {
      const std::size_t before = moved.size();
      for (auto at = first; at != last && whole; ++at) {
        const ChunkRecord& chunk = manifest.chunks[at->second];
        offsets[at->first] = moved.size();
        moved.resize(moved.size() + chunk.bytes);
        const auto to = std::span(moved).last(chunk.bytes);
        const Status status = store.get(key, chunk.offset, to);
        whole = status && checksum(to) == chunk.hash;
        if (!whole && (status || means_damage(status.error().code))) is_damaged(at->second);
      }
      if (!whole) {
        moved.resize(before);
        offsets.erase(offsets.lower_bound({object, 0}), offsets.end());
      }
    }
    first = last;
  }
  std::sort(done.damaged_blocks.begin(), done.damaged_blocks.end());
  done.damaged_blocks.erase(std::unique(done.damaged_blocks.begin(), done.damaged_blocks.end()),
                            done.damaged_blocks.end());

  std::string name = segment_name(manifest.generation, moved);
  const bool is_new = std::find(manifest.objects.begin(), manifest.objects.end(), name) == manifest.objects.end();
  if (!offsets.empty() && is_new && store.put(folder + "/" + name, moved)) {
    const auto object = static_cast<std::uint32_t>(manifest.objects.size());
    manifest.objects.push_back(std::move(name));
    for (ChunkRecord& chunk : manifest.chunks) {
      const auto found = chunk.is_stored() ? offsets.find({chunk.object, chunk.offset}) : offsets.end();
      if (found == offsets.end()) continue;
      chunk.object = object;
      chunk.offset = found->second;
    }
    done.bytes = moved.size();
  }
  drop_unused_objects(manifest);
  return done;
}

}  // namespace krul
