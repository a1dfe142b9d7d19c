#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "krul/store/conversation_store.hpp"

namespace krul {

/// A store that gives a whole object at once, whatever its size.
///
///   load(key, most)  the object's bytes; too_large if there are more than `most`, and otherwise fails as get
template <class S>
concept LoadsWhole = ConversationStore<S> && requires(S& store, const std::string& key, std::uint64_t most) {
  { store.load(key, most) } -> std::same_as<Result<std::vector<std::byte>>>;
};

/// The error of an object that is larger than it may be.
[[nodiscard]] inline tl::unexpected<Error> larger_than(std::uint64_t most, const std::string& key) {
  return fail(ErrorCode::too_large,
              "object " + key + " has more than the " + std::to_string(most) + " bytes it may have; restore a backup");
}

/// The same from any store: asks for the size first where it has to.
template <ConversationStore S>
[[nodiscard]] Result<std::vector<std::byte>> load_object(S& store, const std::string& key, std::uint64_t most) {
  if constexpr (LoadsWhole<S>) {
    return store.load(key, most);
  } else {
    const auto size = store.size(key);
    if (!size) return propagate(size);
    if (*size > most) return larger_than(most, key);
    std::vector<std::byte> bytes(static_cast<std::size_t>(*size));
    if (const Status status = store.get(key, 0, bytes); !status) return propagate(status);
    return bytes;
  }
}

}  // namespace krul
