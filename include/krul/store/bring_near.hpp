#pragma once

#include <concepts>
#include <cstdint>
#include <string>

#include "krul/store/conversation_store.hpp"

namespace krul {

/// A store that can bring a folder nearer, as TieredStore can.
///
///   bring_near(folder)  bytes that it copied; they need not be all
template <class S>
concept BringsNear = ConversationStore<S> && requires(S& store, const std::string& folder) {
  { store.bring_near(folder) } -> std::same_as<Result<std::uint64_t>>;
};

/// The same from any store: others have nothing nearer.
template <ConversationStore S>
[[nodiscard]] Result<std::uint64_t> bring_near(S& store, const std::string& folder) {
  if constexpr (BringsNear<S>) return store.bring_near(folder);
  return 0;
}

}  // namespace krul
