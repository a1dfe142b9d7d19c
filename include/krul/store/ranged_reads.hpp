#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <stop_token>
#include <string>

#include "krul/core/clock.hpp"
#include "krul/store/conversation_store.hpp"

namespace krul {

/// A part of an object, and where it goes.
struct RangedRead {
  std::string key;
  std::uint64_t offset = 0;  ///< bytes
  std::span<std::byte> to;
};

/// Until when a caller wants what it asks for.
struct RequestLimits {
  TimePoint deadline = TimePoint::max();  ///< of the clock that the store tells time by
  std::stop_token stop = {};

  /// @return cancelled or deadline
  [[nodiscard]] Status check(TimePoint now) const {
    if (stop.stop_requested()) return fail(ErrorCode::cancelled, "the caller gave up before it was read");
    if (now >= deadline) return fail(ErrorCode::deadline, "it was not read in time; recompute it or allow more");
    return {};
  }
};

/// ended(i, status) tells how read i ended.
using ReadEnd = std::function<void(std::size_t, const Status&)>;

/// A store that asks for many reads at once: over a link with latency they wait side by side.
///
///   get_together(reads, limits, ended)  does what get does for each; calls `ended` once for each, in any order, from
///                                       the calling thread, as soon as it is there. Returns when all have ended. What
///                                       is not read when the limits are reached ends with their error
template <class S>
concept ReadsTogether = ConversationStore<S> &&
    requires(S& store, std::span<const RangedRead> reads, const RequestLimits& limits, const ReadEnd& ended) {
  { store.get_together(reads, limits, ended) } -> std::same_as<void>;
};

/// The same from any store: one after the other where it cannot ask for many.
template <ConversationStore S, Clock C = SteadyClock>
void get_together(S& store, std::span<const RangedRead> reads, const RequestLimits& limits, const ReadEnd& ended,
                  const C& clock = {}) {
  if constexpr (ReadsTogether<S>) {
    store.get_together(reads, limits, ended);
  } else {
    for (std::size_t i = 0; i < reads.size(); ++i) {
      Status status = limits.check(clock.now());
      if (status) status = store.get(reads[i].key, reads[i].offset, reads[i].to);
      ended(i, status);
    }
  }
}

}  // namespace krul
