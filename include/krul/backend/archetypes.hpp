#pragma once

#include <cstddef>
#include <span>

#include "krul/backend/attention_observer.hpp"
#include "krul/backend/kv_cache.hpp"
#include "krul/backend/layer_batch.hpp"
#include "krul/backend/model_backend.hpp"

namespace krul {

// The least that models each concept: no default constructor, no copy, no move, no member beyond what is asked for.
// A template that compiles for an archetype asks of its arguments what the concept says, and no more. Archetypes are
// compiled, never run.

class KvCacheArchetype {
 public:
  KvCacheArchetype() = delete;
  KvCacheArchetype(const KvCacheArchetype&) = delete;
  KvCacheArchetype& operator=(const KvCacheArchetype&) = delete;

  [[nodiscard]] std::size_t capacity() const;
  [[nodiscard]] std::size_t length() const;
  [[nodiscard]] const TokenSet& present(std::size_t layer) const;
  [[nodiscard]] Ticket write_kv(std::size_t layer, TokenRange tokens, KvRows from);
  [[nodiscard]] Ticket read_kv(std::size_t layer, TokenRange tokens, MutableKvRows to) const;
  void wait(Ticket ticket) const;
  void commit(std::size_t count);
  void truncate(std::size_t count);
};
static_assert(KvCache<KvCacheArchetype>);

/// A KvCacheArchetype that is in host memory.
class HostViewableCacheArchetype : public KvCacheArchetype {
 public:
  [[nodiscard]] MutableKvRows view(std::size_t layer);
  void mark_present(std::size_t layer, TokenRange tokens);
};
static_assert(HostViewableCache<HostViewableCacheArchetype> && !HostViewableCache<KvCacheArchetype>);

class LayerBatchArchetype {
 public:
  LayerBatchArchetype() = delete;
  LayerBatchArchetype(const LayerBatchArchetype&) = delete;
  LayerBatchArchetype& operator=(const LayerBatchArchetype&) = delete;

  void assign(std::span<const Position> positions);
  [[nodiscard]] std::span<const Position> positions() const;
  void keep(std::span<const RowRange> rows);
};
static_assert(LayerBatch<LayerBatchArchetype>);

class AttentionObserverArchetype {
 public:
  AttentionObserverArchetype() = delete;
  AttentionObserverArchetype(const AttentionObserverArchetype&) = delete;
  AttentionObserverArchetype& operator=(const AttentionObserverArchetype&) = delete;

  void operator()(const AttentionBlock& block);
};
static_assert(AttentionObserver<AttentionObserverArchetype>);

class ModelBackendArchetype {
 public:
  using Cache = KvCacheArchetype;
  using Batch = LayerBatchArchetype;

  ModelBackendArchetype() = delete;
  ModelBackendArchetype(const ModelBackendArchetype&) = delete;
  ModelBackendArchetype& operator=(const ModelBackendArchetype&) = delete;

  [[nodiscard]] const Geometry& geometry() const;
  [[nodiscard]] const Identity& identity() const;
  [[nodiscard]] Cache make_cache(std::size_t capacity);
  [[nodiscard]] Batch make_batch();
  void embed(std::span<const Token> tokens, Batch& batch);
  void project(std::size_t layer, Batch& batch, Cache& cache, KvWrite write);
  template <AttentionObserver Observer>
  void attend(std::size_t layer, Batch& batch, Cache& cache, Observer&& observer);
  void finish(std::size_t layer, Batch& batch);
  void logits(Batch& batch, RowRange rows, std::span<float> out);
};
static_assert(ModelBackend<ModelBackendArchetype>);

}  // namespace krul
