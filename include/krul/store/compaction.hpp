#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "krul/store/conversation_store.hpp"
#include "krul/store/segment.hpp"

namespace krul {

/// Moves the chunks that are still needed out of objects that mostly are not: an object is given up once more than a
/// quarter of its bytes belong to no chunk. Chunks are moved as they are, not coded again.
///
/// Call it under the folder's lock, before the manifest is published: the new object is put, the old ones stay until
/// collect_garbage.
/// @return bytes that were written; whatever the store says if it cannot read or write, and then the manifest is as it
/// was
/// @post   the objects that the manifest names are at least three quarters chunks, unless one could not be sized
template <ConversationStore S>
Result<std::uint64_t> compact_objects(S& store, const std::string& folder, Manifest& manifest) {
  using Place = std::pair<std::uint32_t, std::uint64_t>;
  std::vector<std::uint64_t> live(manifest.objects.size(), 0);
  std::map<Place, const ChunkRecord*> chunks;
  for (const ChunkRecord& chunk : manifest.chunks)
    if (chunk.is_stored() && chunks.try_emplace({chunk.object, chunk.offset}, &chunk).second)
      live[chunk.object] += chunk.bytes;

  std::vector<char> given_up(manifest.objects.size(), 0);
  for (std::size_t i = 0; i < manifest.objects.size(); ++i) {
    const auto size = store.size(folder + "/" + manifest.objects[i]);
    if (size) given_up[i] = live[i] > 0 && (*size - live[i]) * 4 > *size;
  }

  std::vector<std::byte> moved;
  std::map<Place, std::uint64_t> offsets;
  for (const auto& [place, chunk] : chunks) {
    if (!given_up[place.first]) continue;
    offsets[place] = moved.size();
    moved.resize(moved.size() + chunk->bytes);
    const auto to = std::span(moved).last(chunk->bytes);
    const Status status = store.get(folder + "/" + manifest.objects[place.first], place.second, to);
    if (!status) return propagate(status);
  }
  if (offsets.empty()) {
    drop_unused_objects(manifest);
    return 0;
  }
  std::string name = segment_name(manifest.generation, moved);
  if (const Status status = store.put(folder + "/" + name, moved); !status) return propagate(status);
  const auto object = static_cast<std::uint32_t>(manifest.objects.size());
  manifest.objects.push_back(std::move(name));
  for (ChunkRecord& chunk : manifest.chunks) {
    const auto found = chunk.is_stored() ? offsets.find({chunk.object, chunk.offset}) : offsets.end();
    if (found == offsets.end()) continue;
    chunk.object = object;
    chunk.offset = found->second;
  }
  drop_unused_objects(manifest);
  return moved.size();
}

}  // namespace krul
