#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "krul/backend/kv_rows.hpp"
#include "krul/core/geometry.hpp"
#include "krul/core/tokens.hpp"

namespace krul {

/// Names one transfer that may still be under way.
struct Ticket {
  std::uint64_t number = 0;
};

/// The KV cache of one conversation, in the backend's memory and element type. Keys are held after the rotary
/// embedding.
///
/// A row of a layer is either present or not; present(layer) says which are. length() counts the tokens that are
/// committed: a restore fills rows beyond it and calls commit last, so that a failure leaves the cache as it was.
/// Rows are given and taken as [T, G, D] in the cache's element type. Spans passed to write_kv and read_kv stay valid
/// until wait(ticket) has returned; a row counts as present from then on. Not checkable here, checked by
/// tests/conformance: what is written is read back bit for bit, and no call touches rows that it does not name.
template <class C>
concept KvCache = requires(C& cache, const C& read, std::size_t layer, std::size_t count, TokenRange tokens,
                           KvRows from, MutableKvRows to, Ticket ticket) {
  { read.capacity() } -> std::same_as<std::size_t>;  ///< tokens
  { read.length() } -> std::same_as<std::size_t>;    ///< committed tokens
  { read.present(layer) } -> std::same_as<const TokenSet&>;
  { cache.write_kv(layer, tokens, from) } -> std::same_as<Ticket>;
  { read.read_kv(layer, tokens, to) } -> std::same_as<Ticket>;
  { read.wait(ticket) } -> std::same_as<void>;
  { cache.commit(count) } -> std::same_as<void>;    ///< all rows of [0, count) must be present in every layer
  { cache.truncate(count) } -> std::same_as<void>;  ///< forgets rows and commitment from `count` on
};

/// What a save reads: a cache, or a KvSnapshot of one.
template <class C>
concept KvSource = requires(const C& read, std::size_t layer, TokenRange tokens, MutableKvRows to, Ticket ticket) {
  { read.length() } -> std::same_as<std::size_t>;
  { read.read_kv(layer, tokens, to) } -> std::same_as<Ticket>;
  { read.wait(ticket) } -> std::same_as<void>;
};

/// A cache in host memory also lends its rows without a copy. Who writes through the view says so with mark_present.
template <class C>
concept HostViewableCache = KvCache<C> && requires(C& cache, std::size_t layer, TokenRange tokens) {
  { cache.view(layer) } -> std::same_as<MutableKvRows>;  ///< [capacity, G, D] each
  { cache.mark_present(layer, tokens) } -> std::same_as<void>;
};

}  // namespace krul
