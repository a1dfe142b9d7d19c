#include <krul/backend/archetypes.hpp>
#include <krul/backend/conformance.hpp>
#include <krul/backend/forward.hpp>
#include <krul/backend/forward_each.hpp>
#include <memory>

using krul::KvWrite, krul::LayerBatchArchetype, krul::ModelBackendArchetype, krul::NullObserver, krul::RowRange;

namespace {

// ---- LayerBatch

struct NoAssign : LayerBatchArchetype {
  void assign(std::span<const krul::Position>) = delete;
};
struct PositionsByVector : LayerBatchArchetype {
  [[nodiscard]] std::vector<krul::Position> positions() const;
};
struct KeepsOneRange : LayerBatchArchetype {
  void keep(RowRange);
};
struct KeepSaysHowMany : LayerBatchArchetype {
  [[nodiscard]] std::size_t keep(std::span<const RowRange>);
};
static_assert(krul::LayerBatch<LayerBatchArchetype> && krul::LayerBatch<krul::HostLayerBatch>);
static_assert(!krul::LayerBatch<NoAssign>);
static_assert(!krul::LayerBatch<PositionsByVector>);
static_assert(!krul::LayerBatch<KeepsOneRange>);
static_assert(!krul::LayerBatch<KeepSaysHowMany>);

// ---- AttentionObserver

struct Silent {};
struct TakesWeightsOnly {
  void operator()(std::span<const float>);
};
struct SaysWhetherToGoOn {
  bool operator()(const krul::AttentionBlock&);
};
struct WritesIntoTheBlock {
  void operator()(krul::AttentionBlock&);
};
static_assert(krul::AttentionObserver<krul::AttentionObserverArchetype> && krul::AttentionObserver<NullObserver>);
static_assert(krul::AttentionObserver<krul::AttentionObserverArchetype&>);
static_assert(!krul::AttentionObserver<const krul::AttentionObserverArchetype>);
static_assert(!krul::AttentionObserver<Silent>);
static_assert(!krul::AttentionObserver<TakesWeightsOnly>);
static_assert(!krul::AttentionObserver<SaysWhetherToGoOn>);
static_assert(!krul::AttentionObserver<WritesIntoTheBlock>);

// ---- ModelBackend

using Cache = ModelBackendArchetype::Cache;
using Batch = ModelBackendArchetype::Batch;

struct NoCacheType : ModelBackendArchetype {
  using Cache = void;
};
struct BatchWithoutKeep : ModelBackendArchetype {
  using Batch = NoAssign;
};
struct GeometryByValue : ModelBackendArchetype {
  [[nodiscard]] krul::Geometry geometry() const;
};
struct NoIdentity : ModelBackendArchetype {
  void identity() const = delete;
};
struct CacheBehindAPointer : ModelBackendArchetype {
  [[nodiscard]] std::unique_ptr<Cache> make_cache(std::size_t);
};
struct CacheOfFixedSize : ModelBackendArchetype {
  [[nodiscard]] Cache make_cache();
};
struct NoBatch : ModelBackendArchetype {
  void make_batch() = delete;
};
struct EmbedsOneToken : ModelBackendArchetype {
  void embed(krul::Token, Batch&);
};
struct ProjectWritesAlways : ModelBackendArchetype {
  void project(std::size_t, Batch&, Cache&);
};
struct AttendWithoutObserver : ModelBackendArchetype {
  void attend(std::size_t, Batch&, Cache&);
};
struct FinishNeedsTheCache : ModelBackendArchetype {
  void finish(std::size_t, Batch&, Cache&);
};
struct LogitsByVector : ModelBackendArchetype {
  [[nodiscard]] std::vector<float> logits(Batch&, RowRange);
};
struct LogitsSayWhether : ModelBackendArchetype {
  [[nodiscard]] bool logits(Batch&, RowRange, std::span<float>);
};
static_assert(krul::ModelBackend<ModelBackendArchetype>);
static_assert(!krul::ModelBackend<NoCacheType>);
static_assert(!krul::ModelBackend<BatchWithoutKeep>);
static_assert(!krul::ModelBackend<GeometryByValue>);
static_assert(!krul::ModelBackend<NoIdentity>);
static_assert(!krul::ModelBackend<CacheBehindAPointer>);
static_assert(!krul::ModelBackend<CacheOfFixedSize>);
static_assert(!krul::ModelBackend<NoBatch>);
static_assert(!krul::ModelBackend<EmbedsOneToken>);
static_assert(!krul::ModelBackend<ProjectWritesAlways>);
static_assert(!krul::ModelBackend<AttendWithoutObserver>);
static_assert(!krul::ModelBackend<FinishNeedsTheCache>);
static_assert(!krul::ModelBackend<LogitsByVector>);
static_assert(!krul::ModelBackend<LogitsSayWhether>);

// ---- BatchesCaches

struct BatchOfRuns : LayerBatchArchetype {
  void assign_runs(std::span<const krul::Position>, std::span<const RowRange>);
};
struct OverSeveralCaches : ModelBackendArchetype {
  using Batch = BatchOfRuns;
  using ModelBackendArchetype::attend, ModelBackendArchetype::project;
  [[nodiscard]] Batch make_batch();
  void project(std::size_t, Batch&, std::span<Cache* const>, KvWrite);
  void attend(std::size_t, Batch&, std::span<Cache* const>);
};
struct ProjectsAlone : OverSeveralCaches {
  using ModelBackendArchetype::project;
};
struct AttendsAlone : OverSeveralCaches {
  using ModelBackendArchetype::attend;
};
static_assert(krul::BatchesCaches<OverSeveralCaches>);
static_assert(!krul::BatchesCaches<ModelBackendArchetype>);
static_assert(!krul::BatchesCaches<ProjectsAlone>);
static_assert(!krul::BatchesCaches<AttendsAlone>);

}  // namespace

// What is generic over backends asks for nothing beyond the concepts.
template void krul::forward(ModelBackendArchetype&, Cache&, Batch&, std::span<const krul::Token>, std::span<float>,
                            NullObserver&&);
template void krul::forward(ModelBackendArchetype&, Cache&, Batch&, std::span<const krul::Token>, std::span<float>,
                            krul::AttentionObserverArchetype&);
template void krul::prefill(ModelBackendArchetype&, Cache&, Batch&, std::span<const krul::Token>, std::span<float>,
                            std::size_t);
template void krul::forward_each(ModelBackendArchetype&, Batch&, std::span<const krul::Continuation<Cache>>,
                                 std::span<float>);
template void krul::forward_each(OverSeveralCaches&, BatchOfRuns&, std::span<const krul::Continuation<Cache>>,
                                 std::span<float>);
template krul::ConformanceReport krul::check_backend(ModelBackendArchetype&, const krul::ConformanceOptions&);
