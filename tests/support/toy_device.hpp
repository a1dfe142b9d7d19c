#pragma once

#include <chrono>
#include <cstddef>
#include <span>

#include "../examples/02_your_own_backend/toy_backend.hpp"
#include "krul/backend/model_backend.hpp"
#include "krul/core/clock.hpp"
#include "krul/core/resource.hpp"

namespace krul::test {

/// Rows that only copies reach. Each takes 7 seconds.
struct ToyDeviceCache {
  HostKvCache inner;
  ManualClock clock;

  [[nodiscard]] std::size_t capacity() const { return inner.capacity(); }
  [[nodiscard]] std::size_t length() const { return inner.length(); }
  [[nodiscard]] const TokenSet& present(std::size_t layer) const { return inner.present(layer); }
  Ticket write_kv(std::size_t layer, TokenRange tokens, KvRows from) {
    clock.advance(std::chrono::seconds(7));
    return inner.write_kv(layer, tokens, from);
  }
  Ticket read_kv(std::size_t layer, TokenRange tokens, MutableKvRows to) const {
    return inner.read_kv(layer, tokens, to);
  }
  void wait(Ticket ticket) const { inner.wait(ticket); }
  void commit(std::size_t count) { inner.commit(count); }
  void truncate(std::size_t count) { inner.truncate(count); }
};
static_assert(KvCache<ToyDeviceCache> && !HostViewableCache<ToyDeviceCache>);

/// The toy model with 1 second for embed, 2 for project, 3 for attend, 4 for finish and 5 for logits.
struct ToyDevice {
  using Cache = ToyDeviceCache;
  using Batch = toy::Backend::Batch;
  static constexpr Resource computes_on = Resource::device;

  toy::Backend inner{ElementType::f32};
  ManualClock clock = {};

  void take(int seconds) const { clock.advance(std::chrono::seconds(seconds)); }
  [[nodiscard]] const Geometry& geometry() const { return inner.geometry(); }
  [[nodiscard]] const Identity& identity() const { return inner.identity(); }
  Cache make_cache(std::size_t capacity) { return {inner.make_cache(capacity), clock}; }
  Batch make_batch() { return inner.make_batch(); }
  void embed(std::span<const Token> tokens, Batch& batch) { take(1), inner.embed(tokens, batch); }
  void project(std::size_t layer, Batch& batch, Cache& cache, KvWrite write) {
    take(2), inner.project(layer, batch, cache.inner, write);
  }
  template <AttentionObserver O>
  void attend(std::size_t layer, Batch& batch, Cache& cache, O&& observer) {
    take(3), inner.attend(layer, batch, cache.inner, observer);
  }
  void finish(std::size_t layer, Batch& batch) { take(4), inner.finish(layer, batch); }
  void logits(Batch& batch, RowRange rows, std::span<float> out) { take(5), inner.logits(batch, rows, out); }
};
static_assert(ModelBackend<ToyDevice>);

}  // namespace krul::test
