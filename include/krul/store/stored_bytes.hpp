#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/store/conversation_store.hpp"
#include "krul/store/object_sizes.hpp"

namespace krul {

/// All that a store keeps in a folder, in bytes: of a conversation, its chunks and its manifest's copies. What the
/// store fails with is given back. Asks for all sizes together.
template <ConversationStore S>
[[nodiscard]] Result<std::uint64_t> stored_bytes(S& store, const std::string& folder) {
  const auto objects = store.list(folder);
  if (!objects) return propagate(objects);
  std::vector<std::string> keys;
  for (const std::string& object : *objects) keys.push_back(folder + "/" + object);
  std::uint64_t bytes = 0;
  for (const auto& size : object_sizes(store, keys)) {
    if (!size) return propagate(size);
    bytes += *size;
  }
  return bytes;
}

}  // namespace krul
