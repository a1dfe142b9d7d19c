#pragma once

#include <concepts>
#include <cstddef>
#include <span>

#include "krul/core/tokens.hpp"

namespace krul {

/// One block of attention weights as the model computed them.
struct AttentionBlock {
  std::size_t layer = 0;
  std::span<const Position> queries;  ///< [R] positions of the query rows
  std::size_t keys = 0;               ///< K: key positions 0 .. K-1
  std::size_t query_heads = 0;        ///< H
  std::span<const float> weights;     ///< [H, R, K], each row sums to 1; 0 where causality forbids
};

/// Sees softmax rows while the model runs. Called from the thread that calls attend, block after block; the weights are
/// valid only during the call.
template <class O>
concept AttentionObserver = requires(O& observer, const AttentionBlock& block) {
  { observer(block) } -> std::same_as<void>;
};

/// An observer that needs only some query rows and says which: backends may leave the others out of its blocks.
template <class O>
concept SelectiveObserver = AttentionObserver<O> && requires(const O& observer, Position query) {
  { observer.wants(query) } -> std::same_as<bool>;
};

/// The observer that is not there: backends skip all work for it.
struct NullObserver {
  void operator()(const AttentionBlock&) const noexcept {}
};
static_assert(AttentionObserver<NullObserver>);

/// Passes everything on to an observer that lives elsewhere.
template <AttentionObserver O>
struct ObserverRef {
  O* observer = nullptr;
  void operator()(const AttentionBlock& block) const { (*observer)(block); }
  [[nodiscard]] bool wants(Position query) const requires SelectiveObserver<O> { return observer->wants(query); }
};
static_assert(AttentionObserver<ObserverRef<NullObserver>>);

/// An observer that follows one conversation row by row: rows before observe_from are not new to it, and one pass
/// brings it at most block_rows() new ones.
template <class O>
concept TokenwiseObserver = AttentionObserver<O> && requires(O& observer, const O& read, Position position) {
  { observer.observe_from(position) } -> std::same_as<void>;
  { read.block_rows() } -> std::same_as<std::size_t>;
};

}  // namespace krul
