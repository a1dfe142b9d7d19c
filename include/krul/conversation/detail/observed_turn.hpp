#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>
#include <type_traits>

#include "krul/backend/forward.hpp"
#include "krul/core/geometry.hpp"
#include "krul/core/tokens.hpp"
#include "krul/similarity/attention_statistics.hpp"
#include "krul/similarity/observe.hpp"
#include "krul/similarity/row_attention.hpp"
#include "krul/store/manifest.hpp"

namespace krul::detail {

// A turn of a conversation with an observer of attention, or with none.

/// What a manifest keeps of attention.
struct SavedAttention {
  std::span<const std::byte> statistics = {}, row_attention = {};
};

/// Of the first `matched` rows; nothing if that is not all that is saved.
[[nodiscard]] inline SavedAttention saved_attention(const Manifest& manifest, std::size_t matched) {
  return matched == manifest.rows ? SavedAttention{manifest.statistics, manifest.row_attention} : SavedAttention{};
}

/// Tells an observer which tokens it sees next, and what was seen of those before.
/// @param seen  as it was saved with them; empty if nothing was, or it is of other tokens
template <AttentionObserver O>
void begin_observing(O& observer, TokenRange tokens, const Geometry& geometry, const SavedAttention& seen) {
  if constexpr (TokenwiseObserver<O>) {
    if constexpr (requires(const AttentionStatistics& all) { observer.load(all); }) {
      const auto saved = parse_attention_statistics(seen.statistics);
      if (saved && saved->layers == geometry.layers && saved->query_heads == geometry.query_heads)
        observer.load(*saved);
    }
    if constexpr (requires(const RowAttention& all) { observer.load(all); })
      if (const auto saved = parse_row_attention(seen.row_attention)) observer.load(*saved);
    observer.observe_from(static_cast<Position>(tokens.begin));
    if constexpr (ForesightedObserver<O>) observer.observe_until(static_cast<Position>(tokens.end));
  }
}

/// Lets an observer that can begin again forget a pass that was given up, and see the same tokens once more.
/// @return false if it cannot, or sees nothing
template <AttentionObserver O>
[[nodiscard]] bool observes_again(O& observer, TokenRange tokens, const Geometry& geometry,
                                  const SavedAttention& seen) {
  if constexpr (requires { observer.begin_again(); }) {
    observer.begin_again();
    begin_observing(observer, tokens, geometry, seen);
    return true;
  } else {
    return false;
  }
}

/// How many of the new tokens go through the model at once.
template <AttentionObserver O>
[[nodiscard]] std::size_t tokens_at_once(const O& observer, std::size_t count, std::size_t rows) {
  if constexpr (TokenwiseObserver<O>) return std::min(count, std::max(rows, observer.block_rows()));
  return count;
}

/// Runs tokens behind the cache's end, in pieces that suit the observer.
template <ModelBackend B, AttentionObserver O>
void run_observed(B& model, typename B::Cache& cache, std::span<const Token> tokens, std::span<float> logits,
                  O& observer) {
  auto batch = model.make_batch();
  if constexpr (TokenwiseObserver<O>) {
    observed_prefill(model, cache, batch, tokens, logits, observer);
  } else {
    prefill(model, cache, batch, tokens, logits);
  }
}

template <AttentionObserver O>
using ObserverOf = std::conditional_t<std::same_as<O, NullObserver>, NullObserver, ObserverRef<O>>;

template <AttentionObserver O>
[[nodiscard]] ObserverOf<O> observer_of(O& observer) {
  if constexpr (std::same_as<O, NullObserver>)
    return {};
  else
    return {&observer};
}

}  // namespace krul::detail
