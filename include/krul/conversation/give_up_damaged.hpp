#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "krul/conversation/verify.hpp"

namespace krul {

/// Lets the saved state say what of it is damaged, so that the next restore recomputes those blocks, whatever it plans,
/// and the save after it writes them again. Needs no model. A restore alone heals what it reads; this is for damage in
/// fronts that are recomputed by plan, and so never read. A damaged copy of the manifest is replaced by the good one.
/// What only cannot be read stays as it is.
/// @return  how many chunks were given up; busy if another process has the conversation; io if a copy of the manifest
///          cannot be read; otherwise as load_manifest, and whatever the store says if the manifest cannot be written
template <ConversationStore S>
[[nodiscard]] Result<std::size_t> give_up_damaged(S& store, const std::string& folder) {
  const auto lock = store.lock(folder);
  if (!lock) return propagate(lock);
  auto loaded = load_manifest(store, folder, ManifestCopies::both, ManifestOfFolder{folder});
  if (!loaded) return propagate(loaded);
  if (loaded->unread) return fail(ErrorCode::io, loaded->repaired);
  Manifest& manifest = loaded->manifest;
  VerifyReport report;
  detail::verify_chunks(store, folder, manifest, report);
  if (report.damaged_chunks.empty() && loaded->repaired.empty()) return 0;

  // An object that is never there: its chunks are gone for every reader, and so to be replaced.
  const std::string nowhere = "segment-0-gone";
  auto object = std::find(manifest.objects.begin(), manifest.objects.end(), nowhere);
  if (object == manifest.objects.end()) object = manifest.objects.insert(object, nowhere);
  const auto index = static_cast<std::uint32_t>(object - manifest.objects.begin());
  std::map<std::pair<std::uint32_t, std::uint64_t>, std::uint64_t> places;
  for (const std::size_t damaged : report.damaged_chunks) {
    ChunkRecord& chunk = manifest.chunks[damaged];
    chunk.offset = places.try_emplace({chunk.object, chunk.offset}, damaged).first->second;
    chunk.object = index;
  }
  drop_unused_objects(manifest);
  ++manifest.generation;
  const auto published = publish_manifest(store, folder, manifest);
  if (!published) return propagate(published);
  static_cast<void>(collect_garbage(store, folder, manifest));
  return report.damaged_chunks.size();
}

}  // namespace krul
