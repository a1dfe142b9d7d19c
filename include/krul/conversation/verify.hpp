#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "krul/store/conversation_key.hpp"
#include "krul/store/manifest_store.hpp"

namespace krul {

/// What reading every byte of a saved conversation found.
struct VerifyReport {
  std::size_t chunks = 0;             ///< that should be there
  std::uint64_t bytes = 0;            ///< that were read and are right
  std::vector<std::string> problems;  ///< one sentence each; empty: all is as it was written
};

/// Reads both copies of the manifest and every chunk, and compares checksums. Changes nothing. That the copies are of
/// different generations, as a save leaves them that was cut off between the two, is no problem.
/// @return  not_found if nothing is saved; corrupt if no copy of the manifest can be read
/// @complexity  one read of everything; holds one chunk at a time
template <ConversationStore S>
[[nodiscard]] Result<VerifyReport> verify_conversation(S& store, const std::string& folder) {
  const auto loaded = load_manifest(store, folder);
  if (!loaded) return propagate(loaded);
  const Manifest& manifest = loaded->manifest;
  VerifyReport report;
  report.bytes = loaded->bytes;
  if (loaded->damaged) report.problems.push_back(loaded->repaired);
  const auto expected = conversation_folder(manifest.conversation);
  if (!expected || *expected != folder)
    report.problems.push_back("the manifest belongs to the conversation \"" + manifest.conversation +
                              "\", which lives elsewhere");
  std::vector<std::byte> bytes;
  for (std::size_t layer = 0; layer < manifest.layers; ++layer) {
    for (std::size_t block = 0; block < manifest.blocks(); ++block) {
      const ChunkRecord& chunk = manifest.chunk(layer, block);
      if (!chunk.is_stored()) continue;
      ++report.chunks;
      bytes.resize(chunk.bytes);
      const std::string what = "layer " + std::to_string(layer) + ", block " + std::to_string(block);
      auto status = store.get(folder + "/" + manifest.objects[chunk.object], chunk.offset, bytes);
      if (status) status = verify(bytes, chunk.hash, what);
      if (status) {
        report.bytes += chunk.bytes;
      } else {
        report.problems.push_back(what + ": " + status.error().message);
      }
    }
  }
  return report;
}

}  // namespace krul
