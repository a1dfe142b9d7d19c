#pragma once

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>

#include "krul/core/clock.hpp"

namespace krul {

/// What is known of a saved conversation when room is needed.
struct StoredConversation {
  std::size_t tokens = 0;   ///< of its history; 0 where a save was cut off, and nothing can be restored
  std::uint64_t bytes = 0;  ///< that erasing it frees, > 0
  Duration idle{};          ///< since it was last used, >= 0
};

/// How much keeping a conversation is worth: those of least worth go first. Pure.
template <class P>
concept EvictionPolicy = requires(const P& policy, const StoredConversation& conversation) {
  { policy.worth(conversation) } -> std::same_as<double>;
};

/// Seconds of computing that a byte saves, less the longer nobody came back.
///
///   worth = (T + T^2 / quadratic_from) / bytes / (1 + idle / half_life)
///
/// Recomputing T tokens costs T passes through the weights and T^2 / 2 products of attention; at `quadratic_from`
/// tokens both cost the same. @source ours; cost over size, as GreedyDual-Size (Cao and Irani 1997)
struct RecomputePerByte {
  double quadratic_from = 16'384;              ///< tokens, > 0
  Duration half_life = std::chrono::hours(6);  ///< idle time that halves the worth, > 0

  [[nodiscard]] double worth(const StoredConversation& conversation) const noexcept {
    const auto tokens = static_cast<double>(conversation.tokens);
    const double cost = tokens * (1 + tokens / quadratic_from);
    return cost / static_cast<double>(conversation.bytes) / (1 + seconds(conversation.idle) / seconds(half_life));
  }
};
static_assert(EvictionPolicy<RecomputePerByte>);

/// Whoever came last stays longest.
struct LeastRecentlyUsed {
  [[nodiscard]] double worth(const StoredConversation& conversation) const noexcept {
    return -seconds(conversation.idle);
  }
};
static_assert(EvictionPolicy<LeastRecentlyUsed>);

}  // namespace krul
