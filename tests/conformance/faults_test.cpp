// The suite is only worth something if it finds faults: backends, caches and batches with one fault each, and the check
// that must find it.

#include <algorithm>
#include <array>
#include <atomic>
#include <sstream>
#include <string>
#include <vector>

#include "../../examples/05_your_own_backend/toy_backend.hpp"
#include "conformance/backend_suite.hpp"

using krul::HostKvCache;
using krul::HostLayerBatch;
using krul::KvWrite;
using krul::RowRange;
using krul::Ticket;
using krul::TokenRange;

namespace {

bool finds(const krul::ConformanceReport& report, std::string_view name) {
  const auto checks = report.checks();
  const auto check =
      std::ranges::find_if(checks, [&](const auto& c) { return c.name.find(name) != std::string::npos; });
  REQUIRE_MESSAGE(check != checks.end(), "no check is called " << name);
  return !check->passed && !check->detail.empty();
}

template <class Model>
bool backend_check_finds(std::string_view name) {
  static_assert(krul::ModelBackend<Model>);
  Model model;
  return finds(krul::check_backend(model), name);
}

// ---- project

struct WritesPresentRows : toy::Backend {
  void project(std::size_t layer, Batch& batch, Cache& cache, KvWrite write) const {
    toy::Backend::project(layer, batch, cache, write == KvWrite::missing ? KvWrite::all : write);
  }
};
struct WritesAlways : toy::Backend {
  void project(std::size_t layer, Batch& batch, Cache& cache, KvWrite) const {
    toy::Backend::project(layer, batch, cache, KvWrite::all);
  }
};
struct WritesOneRowMore : toy::Backend {
  void project(std::size_t layer, Batch& batch, Cache& cache, KvWrite write) const {
    toy::Backend::project(layer, batch, cache, write);
    const std::size_t next = batch.positions().back() + std::size_t{1};
    const std::vector<std::byte> zeros(geometry().kv_row_bytes());
    if (write != KvWrite::none && next < cache.capacity()) cache.write_kv(layer, {next, next + 1}, {zeros, zeros});
  }
};
struct CommitsByItself : toy::Backend {
  void finish(std::size_t layer, Batch& batch) const { toy::Backend::finish(layer, batch); }
  void attend(std::size_t layer, Batch& batch, Cache& cache, auto&& observer) const {
    toy::Backend::attend(layer, batch, cache, observer);
    if (layer + 1 == geometry().layers) cache.commit(batch.positions().back() + std::size_t{1});
  }
};
struct DropsRowsBeyondCapacity : toy::Backend {
  void project(std::size_t layer, Batch& batch, Cache& cache, KvWrite write) const {
    if (batch.positions().back() < cache.capacity()) toy::Backend::project(layer, batch, cache, write);
  }
};

// ---- attend

struct TakesAbsentKeysAsZero : toy::Backend {
  void attend(std::size_t layer, Batch& batch, Cache& cache, auto&& observer) const {
    const std::vector<std::byte> zeros(geometry().kv_row_bytes());
    if (layer < geometry().layers)
      for (const auto& gap : cache.present(layer).missing({0, batch.positions().back() + std::size_t{1}}))
        for (std::size_t row = gap.begin; row < gap.end; ++row) cache.write_kv(layer, {row, row + 1}, {zeros, zeros});
    toy::Backend::attend(layer, batch, cache, observer);
  }
};
struct NeedsEveryRowOfTheCache : toy::Backend {
  void attend(std::size_t layer, Batch& batch, Cache& cache, auto&& observer) const {
    krul::expects(layer < geometry().layers && cache.present(layer).contains({0, cache.capacity()}), "not full");
    toy::Backend::attend(layer, batch, cache, observer);
  }
};
struct DependsOnItsBatch : toy::Backend {
  void attend(std::size_t layer, Batch& batch, Cache& cache, auto&& observer) const {
    toy::Backend::attend(layer, batch, cache, observer);
    for (auto& value : batch.attention()) value *= 1 + 0.05F * static_cast<float>(batch.rows());
  }
};
template <class Change>
struct ShowsChangedWeights : toy::Backend {
  void attend(std::size_t layer, Batch& batch, Cache& cache, auto&& observer) const {
    toy::Backend::attend(layer, batch, cache, [&](const krul::AttentionBlock& block) {
      std::vector<float> weights(block.weights.begin(), block.weights.end());
      auto changed = block;
      Change{}(weights, changed);
      changed.weights = weights;
      observer(changed);
      if (Change::again) observer(changed);
    });
  }
};
struct LooksAhead {
  static constexpr bool again = false;
  void operator()(std::vector<float>& weights, const krul::AttentionBlock& block) const {
    if (block.keys > 1) std::swap(weights[0], weights[block.keys - 1]);
  }
};
struct LosesWeight {
  static constexpr bool again = false;
  void operator()(std::vector<float>& weights, const krul::AttentionBlock&) const { weights[0] *= 0.99F; }
};
struct ShowsTwice {
  static constexpr bool again = true;
  void operator()(std::vector<float>&, const krul::AttentionBlock&) const {}
};
struct MixesLayers {
  static constexpr bool again = false;
  void operator()(std::vector<float>&, krul::AttentionBlock& block) const { block.layer = 0; }
};

// ---- state that outlives a pass

struct RemembersTheLastPass : toy::Backend {
  mutable std::atomic<float> last{0};
  void embed(std::span<const krul::Token> tokens, Batch& batch) const {
    toy::Backend::embed(tokens, batch);
    last = static_cast<float>(tokens.back());
  }
  void finish(std::size_t layer, Batch& batch) const {
    toy::Backend::finish(layer, batch);
    for (auto& value : batch.hidden()) value += last;
  }
};
struct ChangesFromCallToCall : toy::Backend {
  mutable std::atomic<int> calls{0};
  void logits(Batch& batch, RowRange rows, std::span<float> out) const {
    toy::Backend::logits(batch, rows, out);
    out[0] += 1e-6F * static_cast<float>(++calls);
  }
};

// ---- logits and mistakes

struct AlwaysTheFirstRows : toy::Backend {
  void logits(Batch& batch, RowRange rows, std::span<float> out) const {
    krul::expects(rows.end <= batch.rows(), "no such rows");
    toy::Backend::logits(batch, {0, rows.size()}, out);
  }
};
struct IgnoresItsTokens : toy::Backend {
  void embed(std::span<const krul::Token> tokens, Batch& batch) const {
    toy::Backend::embed(std::vector<krul::Token>(tokens.size(), 0), batch);
  }
};
struct AcceptsAnyToken : toy::Backend {
  void embed(std::span<const krul::Token> tokens, Batch& batch) const {
    std::vector<krul::Token> valid(tokens.begin(), tokens.end());
    for (auto& token : valid) token = std::clamp(token, 0, 63);
    toy::Backend::embed(valid, batch);
  }
};
struct AcceptsAnyLayer : toy::Backend {
  void finish(std::size_t layer, Batch& batch) const {
    if (layer < geometry().layers) toy::Backend::finish(layer, batch);
  }
};
struct TruncatesLogits : toy::Backend {
  void logits(Batch& batch, RowRange rows, std::span<float> out) const {
    std::vector<float> all(rows.size() * geometry().vocabulary);
    toy::Backend::logits(batch, rows, all);
    std::copy_n(all.begin(), std::min(all.size(), out.size()), out.begin());
  }
};

// ---- a batch whose activations stay behind

struct LeavesHiddenStatesBehind : toy::Backend {
  struct Batch : HostLayerBatch {
    using HostLayerBatch::HostLayerBatch;
    void keep(std::span<const RowRange> rows) {
      const std::vector<float> before(hidden().begin(), hidden().end());
      HostLayerBatch::keep(rows);
      std::copy_n(before.begin(), hidden().size(), hidden().begin());
    }
  };
  Batch make_batch() const { return Batch(geometry()); }
};

// ---- descriptions

struct Anonymous : toy::Backend {
  krul::Identity none;
  const krul::Identity& identity() const { return none; }
};
struct Impossible : toy::Backend {
  krul::Geometry wrong{.layers = 2, .query_heads = 3, .kv_heads = 2, .head_dim = 8, .hidden = 8, .vocabulary = 8};
  const krul::Geometry& geometry() const { return wrong; }
};

// ---- caches

struct SpillsOver : HostKvCache {
  using HostKvCache::HostKvCache;
  Ticket write_kv(std::size_t layer, TokenRange tokens, krul::KvRows rows) {
    HostKvCache::write_kv(layer, tokens, rows);
    const auto row = rows.keys.first(tokens.empty() ? 0 : rows.keys.size() / tokens.size());
    if (tokens.begin > 0 && !tokens.empty() && present(layer).contains({tokens.begin - 1, tokens.begin}))
      HostKvCache::write_kv(layer, {tokens.begin - 1, tokens.begin}, {row, row});
    return {};
  }
};
struct FlipsABit : HostKvCache {
  using HostKvCache::HostKvCache;
  Ticket read_kv(std::size_t layer, TokenRange tokens, krul::MutableKvRows rows) const {
    HostKvCache::read_kv(layer, tokens, rows);
    if (tokens.begin == 7) rows.values[0] ^= std::byte{1};
    return {};
  }
};
struct RoundsPresenceUp : HostKvCache {
  using HostKvCache::HostKvCache;
  Ticket write_kv(std::size_t layer, TokenRange tokens, krul::KvRows rows) {
    HostKvCache::write_kv(layer, tokens, rows);
    mark_present(layer, {tokens.begin, std::min(capacity(), (tokens.end + 3) / 4 * 4)});
    return {};
  }
};
struct ReadsAnything : HostKvCache {
  using HostKvCache::HostKvCache;
  Ticket read_kv(std::size_t layer, TokenRange tokens, krul::MutableKvRows rows) const {
    if (layer != 0 || present(layer).contains(tokens)) return HostKvCache::read_kv(layer, tokens, rows);
    return {};
  }
};
struct CommitsAnything : HostKvCache {
  using HostKvCache::HostKvCache;
  std::size_t committed = 0;
  std::size_t length() const { return committed; }
  void commit(std::size_t count) { committed = count; }
  void truncate(std::size_t count) {
    HostKvCache::truncate(count);
    committed = std::min(committed, count);
  }
};
struct TruncatesLengthOnly : HostKvCache {
  using HostKvCache::HostKvCache;
  std::size_t limit = SIZE_MAX;
  std::size_t length() const { return std::min(limit, HostKvCache::length()); }
  void truncate(std::size_t count) { limit = std::min(limit, count); }
};
struct ClampsToItsCapacity : HostKvCache {
  using HostKvCache::HostKvCache;
  Ticket write_kv(std::size_t layer, TokenRange tokens, krul::KvRows rows) {
    if (tokens.end <= capacity()) HostKvCache::write_kv(layer, tokens, rows);
    return {};
  }
};
struct ComesHalfFull : HostKvCache {
  ComesHalfFull(const krul::Geometry& geometry, std::size_t capacity) : HostKvCache(geometry, capacity) {
    mark_present(0, {0, 1});
  }
};

template <class Cache>
bool cache_check_finds(std::string_view name) {
  const krul::Geometry geometry{.layers = 3, .kv_heads = 2, .head_dim = 4};
  return finds(krul::check_kv_cache([&](std::size_t capacity) { return Cache(geometry, capacity); }, geometry), name);
}

// ---- batches

struct KeepsTheFirst : HostLayerBatch {
  using HostLayerBatch::HostLayerBatch;
  void keep(std::span<const RowRange> ranges) {
    HostLayerBatch::keep(ranges);
    const RowRange all{0, rows()};
    std::vector<krul::Position> first(all.end);
    for (std::size_t i = 0; i < first.size(); ++i) first[i] = static_cast<krul::Position>(i);
    assign(first);
  }
};
struct SortsItsRanges : HostLayerBatch {
  using HostLayerBatch::HostLayerBatch;
  void keep(std::span<const RowRange> ranges) {
    std::vector<RowRange> sorted(ranges.begin(), ranges.end());
    std::ranges::sort(sorted, {}, &RowRange::begin);
    for (std::size_t i = 1; i < sorted.size(); ++i) sorted[i].begin = std::max(sorted[i].begin, sorted[i - 1].end);
    HostLayerBatch::keep(sorted);
  }
};
struct Accumulates : HostLayerBatch {
  using HostLayerBatch::HostLayerBatch;
  void assign(std::span<const krul::Position> positions) {
    std::vector<krul::Position> both(HostLayerBatch::positions().begin(), HostLayerBatch::positions().end());
    for (const auto position : positions)
      if (both.empty() || position > both.back()) both.push_back(position);
    HostLayerBatch::assign(both);
  }
};

template <class Batch>
bool batch_check_finds(std::string_view name) {
  const krul::Geometry geometry{.query_heads = 1, .head_dim = 2, .hidden = 2};
  return finds(krul::check_layer_batch([&] { return Batch(geometry); }), name);
}

}  // namespace

TEST_CASE("check_backend finds what project does wrong") {
  CHECK(backend_check_finds<WritesPresentRows>("KvWrite::missing"));
  CHECK(backend_check_finds<WritesAlways>("KvWrite::none"));
  CHECK(backend_check_finds<WritesOneRowMore>("only the rows of the batch"));
  CHECK(backend_check_finds<CommitsByItself>("recomputed prefix"));
  CHECK(backend_check_finds<DropsRowsBeyondCapacity>("beyond the cache's capacity"));
}

TEST_CASE("check_backend finds what attend does wrong") {
  CHECK(backend_check_finds<TakesAbsentKeysAsZero>("a key that a row sees"));
  CHECK(backend_check_finds<NeedsEveryRowOfTheCache>("keys that no row sees"));
  CHECK(backend_check_finds<DependsOnItsBatch>("in pieces"));
  CHECK(backend_check_finds<DependsOnItsBatch>("token by token"));
  CHECK(backend_check_finds<DependsOnItsBatch>("dropped between"));
}

TEST_CASE("check_backend finds what an observer is shown wrong") {
  CHECK(backend_check_finds<ShowsChangedWeights<LooksAhead>>("observer"));
  CHECK(backend_check_finds<ShowsChangedWeights<LosesWeight>>("observer"));
  CHECK(backend_check_finds<ShowsChangedWeights<ShowsTwice>>("observer"));
  CHECK(backend_check_finds<ShowsChangedWeights<MixesLayers>>("observer"));
}

TEST_CASE("check_backend finds state that outlives a pass") {
  CHECK(backend_check_finds<RemembersTheLastPass>("step by step in turn"));
  CHECK(backend_check_finds<ChangesFromCallToCall>("same bits"));
  CHECK(backend_check_finds<ChangesFromCallToCall>("two threads"));
}

TEST_CASE("check_backend finds wrong logits and mistakes that pass") {
  CHECK(backend_check_finds<AlwaysTheFirstRows>("any range of rows"));
  CHECK(backend_check_finds<IgnoresItsTokens>("another conversation"));
  CHECK(backend_check_finds<AcceptsAnyToken>("outside of the vocabulary"));
  CHECK(backend_check_finds<AcceptsAnyLayer>("layers beyond the last"));
  CHECK(backend_check_finds<TruncatesLogits>("logits that do not fit"));
  CHECK(backend_check_finds<LeavesHiddenStatesBehind>("dropped between"));
}

TEST_CASE("check_backend finds descriptions that cannot be") {
  CHECK(backend_check_finds<Anonymous>("identity"));
  CHECK(backend_check_finds<Impossible>("geometry is possible"));
}

TEST_CASE("check_kv_cache finds faulty caches") {
  CHECK(cache_check_finds<ComesHalfFull>("starts empty"));
  CHECK(cache_check_finds<FlipsABit>("bit for bit"));
  CHECK(cache_check_finds<SpillsOver>("does not name"));
  CHECK(cache_check_finds<RoundsPresenceUp>("exactly the rows"));
  CHECK(cache_check_finds<ReadsAnything>("not there is refused"));
  CHECK(cache_check_finds<CommitsAnything>("commit needs"));
  CHECK(cache_check_finds<TruncatesLengthOnly>("truncate forgets"));
  CHECK(cache_check_finds<ClampsToItsCapacity>("beyond the capacity"));
}

TEST_CASE("check_layer_batch finds faulty batches") {
  CHECK(batch_check_finds<Accumulates>("assign replaces"));
  CHECK(batch_check_finds<Accumulates>("do not ascend"));
  CHECK(batch_check_finds<KeepsTheFirst>("keep leaves"));
  CHECK(batch_check_finds<SortsItsRanges>("overlap"));
}

TEST_CASE("a report prints one line a check, with the reason behind those that failed") {
  krul::ConformanceReport report;
  report.add("first", [] { return std::string("measured 1"); });
  report.add("second", []() -> std::string { throw krul::conformance::Broken("row 3 differs"); });
  std::ostringstream text;
  text << report;
  CHECK(text.str() == "passed  first\nFAILED  second: row 3 differs\n");
  CHECK_FALSE(report.passed());
  CHECK(report.checks()[0].detail == "measured 1");
}

TEST_CASE("test conversations that are too short are refused") {
  toy::Backend model;
  CHECK_THROWS_AS(krul::check_backend(model, {.tokens = 11}), krul::PreconditionError);
}
