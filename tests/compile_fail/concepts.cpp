// Types that are nearly what a user writes: a call is missing, returns the wrong type, or takes the wrong one. Each
// assertion says, after "says:", what the compiler's message has to name; concepts_test.py looks for it.

#include <krul/backend/archetypes.hpp>
#include <krul/compress/chunk_coder.hpp>
#include <krul/compress/exact_codec.hpp>
#include <krul/compress/layer_pair_compressor.hpp>
#include <krul/restore/full_load.hpp>
#include <krul/similarity/similarity_metric.hpp>
#include <krul/store/memory_store.hpp>
#include <krul/strategy/catalogue/minicache.hpp>

using namespace krul;

struct NoFinish : ModelBackendArchetype {
  void finish(std::size_t, Batch&) = delete;
};
struct GeometryByValue : ModelBackendArchetype {
  [[nodiscard]] Geometry geometry() const;
};
struct EmbedsWords : ModelBackendArchetype {
  void embed(std::span<const std::string>, Batch&);
};
static_assert(ModelBackend<NoFinish>);         // says: finish
static_assert(ModelBackend<GeometryByValue>);  // says: geometry
static_assert(ModelBackend<EmbedsWords>);      // says: embed

struct NoPrefix {};
struct PrefixOfInts {
  [[nodiscard]] std::vector<int> prefix(const RestoreSizes&, const Costs&) const;
};
struct PrefixOfSizes {
  [[nodiscard]] std::vector<std::size_t> prefix(const RestoreSizes&) const;
};
static_assert(RestorePolicy<NoPrefix>);       // says: prefix
static_assert(RestorePolicy<PrefixOfInts>);   // says: prefix
static_assert(RestorePolicy<PrefixOfSizes>);  // says: prefix

struct NoPairs {};
struct OnePair {
  [[nodiscard]] LayerPair pairs(const SelectionQuestion&) const;
};
struct PairsOfLayers {
  [[nodiscard]] std::vector<LayerPair> pairs(std::string) const;
};
static_assert(SelectionPolicy<NoPairs>);        // says: pairs
static_assert(SelectionPolicy<OnePair>);        // says: pairs
static_assert(SelectionPolicy<PairsOfLayers>);  // says: pairs

struct UnnamedCodec : ExactCodec {
  std::string_view name() const = delete;
};
struct DecodesForSure : ExactCodec {
  void decode(const Geometry&, std::span<const std::byte>, std::span<std::byte>) const;
};
struct EncodesFloats : ExactCodec {
  void encode(const Geometry&, std::span<const float>, std::span<std::byte>) const;
};
static_assert(RowCodec<UnnamedCodec>);    // says: name
static_assert(RowCodec<DecodesForSure>);  // says: decode
static_assert(RowCodec<EncodesFloats>);   // says: encode

struct UncountedSharing : Separate {
  std::size_t layers() const = delete;
};
struct NamedByString : Separate {
  [[nodiscard]] std::string name() const;
};
struct EncodesOneLayer : Separate {
  [[nodiscard]] std::vector<std::byte> encode(const ExactCodec&, const Geometry&, const float*) const;
};
static_assert(SharingPolicy<UncountedSharing>);  // says: layers
static_assert(SharingPolicy<NamedByString>);     // says: name
static_assert(SharingPolicy<EncodesOneLayer>);   // says: encode

struct UnboundedCoder : LayerPairCompressor<> {
  std::size_t largest_bytes(const Geometry&, std::size_t) const = delete;
};
struct EncodesToText : LayerPairCompressor<> {
  [[nodiscard]] std::string encode(const Geometry&, std::span<const KvRows>, const BlockContext&) const;
};
struct DecodesWithoutGeometry : LayerPairCompressor<> {
  [[nodiscard]] Status decode(std::span<const std::byte>, std::span<const MutableKvRows>) const;
};
static_assert(ChunkCoder<UnboundedCoder>);          // says: largest_bytes
static_assert(ChunkCoder<EncodesToText>);           // says: encode
static_assert(ChunkCoder<DecodesWithoutGeometry>);  // says: decode

struct Metric {
  void add(const AttentionRow&);
  void end_block(std::size_t);
  void collect(std::span<double>);
  [[nodiscard]] std::size_t block_rows(Position) const;
  [[nodiscard]] std::size_t bytes() const;
};
struct NeverEnds : Metric {
  void end_block(std::size_t) = delete;
};
struct CollectsFloats : Metric {
  void collect(std::span<float>);
};
struct CountsInInts : Metric {
  [[nodiscard]] int bytes() const;
};
static_assert(SimilarityMetric<NeverEnds>);       // says: end_block
static_assert(SimilarityMetric<CollectsFloats>);  // says: collect
static_assert(SimilarityMetric<CountsInInts>);    // says: bytes

struct NoLockType : MemoryStore {
 private:
  using Lock = void;
};
struct SizeOrZero : MemoryStore {
  [[nodiscard]] std::uint64_t size(const std::string&);
};
struct PutsText : MemoryStore {
  [[nodiscard]] Status put(const std::string&, const std::string&);
};
static_assert(ConversationStore<NoLockType>);  // says: Lock
static_assert(ConversationStore<SizeOrZero>);  // says: size
static_assert(ConversationStore<PutsText>);    // says: put

struct NoNeeds : strategy::Minicache {
  using Minicache::Minicache;
  Needs needs() const = delete;
};
struct PlansForSure : strategy::Minicache {
  using Minicache::Minicache;
  [[nodiscard]] SavePlan plan(const Evidence&) const;
};
struct RestoresByName : strategy::Minicache {
  using Minicache::Minicache;
  [[nodiscard]] std::string restore_policy() const;
};
static_assert(Strategy<NoNeeds>);         // says: needs
static_assert(Strategy<PlansForSure>);    // says: plan
static_assert(Strategy<RestoresByName>);  // says: restore_policy
