#pragma once

#include <cstdint>
#include <string>

#include "krul/core/error.hpp"
#include "krul/store/conversation_store.hpp"

namespace krul {

/// All that a store keeps in a folder, in bytes: of a conversation, its chunks and its manifest's copies. What the
/// store fails with is given back. One question to the store per object.
template <ConversationStore S>
[[nodiscard]] Result<std::uint64_t> stored_bytes(S& store, const std::string& folder) {
  const auto objects = store.list(folder);
  if (!objects) return propagate(objects);
  std::uint64_t bytes = 0;
  for (const std::string& object : *objects) {
    const auto size = store.size(folder + "/" + object);
    if (!size) return propagate(size);
    bytes += *size;
  }
  return bytes;
}

}  // namespace krul
