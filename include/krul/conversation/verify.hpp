#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "krul/conversation/manifest_check.hpp"
#include "krul/store/manifest_store.hpp"
#include "krul/store/object_sizes.hpp"

namespace krul {

/// What reading every byte of a saved conversation found.
struct VerifyReport {
  std::string conversation;                 ///< its id; empty if only leftovers are there
  std::size_t chunks = 0;                   ///< that should be there
  std::uint64_t bytes = 0;                  ///< that were read and are right
  std::vector<std::string> problems;        ///< one sentence each; empty: all that was read is as it was written
  std::vector<std::string> unread;          ///< what could not be read and may be whole: one sentence each
  std::vector<std::size_t> damaged_chunks;  ///< indices into Manifest::chunks
  std::vector<std::string> leftovers;       ///< objects that belong to nothing: of saves or erases that were cut off
};

namespace detail {

/// Adds a sentence, once.
inline void tell_unread(VerifyReport& report, std::string sentence) {
  auto& told = report.unread;
  if (std::find(told.begin(), told.end(), sentence) == told.end()) told.push_back(std::move(sentence));
}

/// Reads every chunk that a manifest names; nothing is allocated for one that its object cannot hold.
template <ConversationStore S>
void verify_chunks(S& store, const std::string& folder, const Manifest& manifest, VerifyReport& report) {
  const auto keys = object_keys(folder, manifest);
  const auto sizes = object_sizes(store, keys);
  std::vector<std::byte> bytes;
  for (std::size_t layer = 0; layer < manifest.layers; ++layer) {
    for (std::size_t block = 0; block < manifest.blocks(); ++block) {
      const ChunkRecord& chunk = manifest.chunk(layer, block);
      if (!chunk.is_stored()) continue;
      ++report.chunks;
      const std::string what = "layer " + std::to_string(layer) + ", block " + std::to_string(block);
      const auto& size = sizes[chunk.object];
      Status status;
      if (!size) {
        status = propagate(size);
      } else if (chunk.offset + chunk.bytes > *size) {
        status = fail(ErrorCode::truncated, "object " + manifest.objects[chunk.object] +
                                                " is too short for it: " + std::to_string(*size) +
                                                " bytes of at least " + std::to_string(chunk.offset + chunk.bytes));
      } else {
        bytes.resize(chunk.bytes);
        status = store.get(keys[chunk.object], chunk.offset, bytes);
        if (status) status = verify(bytes, chunk.hash, "its chunk");
      }
      if (status) {
        report.bytes += chunk.bytes;
      } else if (!means_damage(status.error().code)) {
        tell_unread(report, status.error().message);
      } else {
        report.problems.push_back(what + ": " + status.error().message);
        report.damaged_chunks.push_back(layer * manifest.blocks() + block);
      }
    }
  }
}

/// Objects that nothing names, unless a writer is at work, to whom they belong.
template <ConversationStore S>
void find_leftovers(S& store, const std::string& folder, const Manifest& manifest, VerifyReport& report) {
  auto names = unnamed_objects(store, folder, manifest);
  if (!names) tell_unread(report, names.error().message);
  if (!names || names->empty()) return;
  const auto lock = store.lock(folder);
  if (!lock && lock.error().code == ErrorCode::busy) return;
  // Who wrote them, or was erasing them, may have come to an end meanwhile.
  auto left = unnamed_objects(store, folder, manifest);
  if (!left) return tell_unread(report, left.error().message);
  report.leftovers = std::move(*left);
}

}  // namespace detail

/// Reads both copies of the manifest and every chunk, and compares checksums. Changes nothing that is saved. That the
/// copies are of different generations, as a save leaves them that was cut off between the two, is no problem. Beside a
/// save or an erase it looks again at what is in force then, so that what is told is damage.
/// @return  not_found if nothing is saved and nothing was left behind; corrupt if no copy of the manifest is what was
///          written; whatever the store says if none can be read; busy if the conversation was saved again each time
///          that it was looked at
/// @complexity  one read of everything; holds one chunk at a time
template <ConversationStore S>
[[nodiscard]] Result<VerifyReport> verify_conversation(S& store, const std::string& folder) {
  constexpr int attempts = 8;
  const auto load = [&] { return load_manifest(store, folder, ManifestCopies::both, ManifestOfFolder{folder}); };
  auto loaded = load();
  for (int attempt = 0; attempt < attempts; ++attempt) {
    VerifyReport report;
    if (loaded) {
      report.conversation = loaded->manifest.conversation;
      report.bytes = loaded->bytes;
      if (loaded->damaged) report.problems.push_back(loaded->repaired);
      if (loaded->unread) detail::tell_unread(report, loaded->repaired);
      detail::verify_chunks(store, folder, loaded->manifest, report);
    }
    if (loaded || loaded.error().code == ErrorCode::not_found)
      detail::find_leftovers(store, folder, loaded ? loaded->manifest : Manifest{}, report);
    if (loaded && report.problems.empty() && report.unread.empty() && report.leftovers.empty()) return report;
    auto again = load();
    const bool moved = loaded && again ? again->manifest != loaded->manifest || again->damaged != loaded->damaged
                                       : again.has_value() != loaded.has_value();
    if (!moved) {
      if (loaded || !report.leftovers.empty() || !report.unread.empty()) return report;
      return propagate(loaded);
    }
    loaded = std::move(again);
  }
  return fail(ErrorCode::busy, "the conversation is being saved again and again; verify it once that has ended");
}

}  // namespace krul
