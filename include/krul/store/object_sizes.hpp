#pragma once

#include <concepts>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "krul/store/conversation_store.hpp"

namespace krul {

/// A store that tells the sizes of many objects at once.
///
///   sizes(keys)  for each what size(key) returns, in the order of the keys
template <class S>
concept SizesTogether = ConversationStore<S> && requires(S& store, std::span<const std::string> keys) {
  { store.sizes(keys) } -> std::same_as<std::vector<Result<std::uint64_t>>>;
};

/// The same from any store: one after the other where it cannot tell many.
template <ConversationStore S>
[[nodiscard]] std::vector<Result<std::uint64_t>> object_sizes(S& store, std::span<const std::string> keys) {
  if constexpr (SizesTogether<S>) {
    return store.sizes(keys);
  } else {
    std::vector<Result<std::uint64_t>> sizes;
    sizes.reserve(keys.size());
    for (const std::string& key : keys) sizes.push_back(store.size(key));
    return sizes;
  }
}

}  // namespace krul
