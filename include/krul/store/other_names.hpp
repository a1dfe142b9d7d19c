#pragma once

#include <concepts>
#include <string>
#include <vector>

#include "krul/store/conversation_store.hpp"

namespace krul {

/// A store that may hold more than objects, as FileStore may.
///
///   dead_writes()          "folder/name" of what writers left behind who died, and of empty folders
///   dead_writes(folder)    names of what they left of their writing in one folder
///   foreign_names(folder)  names that are neither objects' nor the store's own, sorted: somebody else put them there
template <class S>
concept TellsOtherNames = ConversationStore<S> && requires(S& store, const std::string& folder) {
  { store.dead_writes() } -> std::same_as<std::vector<std::string>>;
  { store.dead_writes(folder) } -> std::same_as<std::vector<std::string>>;
  { store.foreign_names(folder) } -> std::same_as<Result<std::vector<std::string>>>;
};

/// The same from any store: others hold objects alone.
template <ConversationStore S>
[[nodiscard]] std::vector<std::string> dead_writes(S& store) {
  if constexpr (TellsOtherNames<S>) return store.dead_writes();
  return {};
}
template <ConversationStore S>
[[nodiscard]] std::vector<std::string> dead_writes(S& store, const std::string& folder) {
  if constexpr (TellsOtherNames<S>) return store.dead_writes(folder);
  return {};
}
template <ConversationStore S>
[[nodiscard]] Result<std::vector<std::string>> foreign_names(S& store, const std::string& folder) {
  if constexpr (TellsOtherNames<S>) return store.foreign_names(folder);
  return std::vector<std::string>();
}

}  // namespace krul
