// The suite is only worth something if it finds faults: backends, caches and batches with one fault each, and the check
// that must find it. Faults are put in at run time, so that the suite is compiled once.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "../../examples/02_your_own_backend/toy_backend.hpp"
#include "conformance/backend_suite.hpp"

using krul::AttentionBlock;
using krul::HostKvCache;
using krul::HostLayerBatch;
using krul::KvRows;
using krul::KvWrite;
using krul::MutableKvRows;
using krul::RowRange;
using krul::Ticket;
using krul::Token;
using krul::TokenRange;

namespace {

bool finds(const krul::ConformanceReport& report, std::string_view name) {
  const auto checks = report.checks();
  const auto check =
      std::ranges::find_if(checks, [&](const auto& c) { return c.name.find(name) != std::string::npos; });
  REQUIRE_MESSAGE(check != checks.end(), "no check is called " << name);
  return !check->passed && !check->detail.empty();
}

// ---- backends

using Toy = toy::Backend;
using Cache = HostKvCache;
using Observer = std::function<void(const AttentionBlock&)>;

/// A batch whose hidden states may stay behind when rows are dropped.
struct Batch : HostLayerBatch {
  Batch(const krul::Geometry& geometry, bool forgetful_) : HostLayerBatch(geometry), forgetful(forgetful_) {}
  void keep(std::span<const RowRange> rows) {
    const std::vector<float> before(hidden().begin(), hidden().end());
    HostLayerBatch::keep(rows);
    if (forgetful) std::copy_n(before.begin(), hidden().size(), hidden().begin());
  }
  bool forgetful;
};

/// The toy backend, each step of which can be replaced.
struct Faulty {
  using Cache = HostKvCache;
  using Batch = ::Batch;

  Toy inner;
  std::function<void(const Toy&, std::span<const Token>, Batch&)> embedding =
      [](const Toy& toy, std::span<const Token> tokens, Batch& batch) { toy.embed(tokens, batch); };
  std::function<void(const Toy&, std::size_t, Batch&, Cache&, KvWrite)> projection =
      [](const Toy& toy, std::size_t layer, Batch& batch, Cache& cache, KvWrite write) {
        toy.project(layer, batch, cache, write);
      };
  std::function<void(const Toy&, std::size_t, Batch&, Cache&, const Observer&)> attention =
      [](const Toy& toy, std::size_t layer, Batch& batch, Cache& cache, const Observer& observer) {
        toy.attend(layer, batch, cache, observer);
      };
  std::function<void(const Toy&, std::size_t, Batch&)> finishing = [](const Toy& toy, std::size_t layer, Batch& batch) {
    toy.finish(layer, batch);
  };
  std::function<void(const Toy&, Batch&, RowRange, std::span<float>)> last =
      [](const Toy& toy, Batch& batch, RowRange rows, std::span<float> out) { toy.logits(batch, rows, out); };
  bool forgetful_batch = false;
  krul::Identity described = inner.identity();
  krul::Geometry shape = inner.geometry();

  const krul::Geometry& geometry() const { return shape; }
  const krul::Identity& identity() const { return described; }
  Cache make_cache(std::size_t capacity) const { return inner.make_cache(capacity); }
  Batch make_batch() const { return Batch(inner.geometry(), forgetful_batch); }
  void embed(std::span<const Token> tokens, Batch& batch) const { embedding(inner, tokens, batch); }
  void project(std::size_t layer, Batch& batch, Cache& cache, KvWrite write) const {
    projection(inner, layer, batch, cache, write);
  }
  void attend(std::size_t layer, Batch& batch, Cache& cache, auto&& observer) const {
    attention(inner, layer, batch, cache, [&](const AttentionBlock& block) { observer(block); });
  }
  void finish(std::size_t layer, Batch& batch) const { finishing(inner, layer, batch); }
  void logits(Batch& batch, RowRange rows, std::span<float> out) const { last(inner, batch, rows, out); }
};
static_assert(krul::ModelBackend<Faulty>);

/// True if the check called `name` finds the fault that `put_in` makes.
template <class PutIn>
bool backend_check_finds(std::string_view name, PutIn&& put_in) {
  Faulty model;
  put_in(model);
  return finds(krul::check_backend(model), name);
}

std::size_t behind(const Batch& batch) {
  return batch.positions().back() + std::size_t{1};
}
std::vector<std::byte> zero_row(const Toy& toy) {
  return std::vector<std::byte>(toy.geometry().kv_row_bytes());
}

// ---- caches

/// A HostKvCache, each call of which can be replaced.
struct FaultyCache : HostKvCache {
  using HostKvCache::HostKvCache;

  std::function<void(HostKvCache&, std::size_t, TokenRange, KvRows)> writing = [](HostKvCache& cache, std::size_t layer,
                                                                                  TokenRange tokens, KvRows rows) {
    cache.write_kv(layer, tokens, rows);
  };
  std::function<void(const HostKvCache&, std::size_t, TokenRange, MutableKvRows)> reading =
      [](const HostKvCache& cache, std::size_t layer, TokenRange tokens, MutableKvRows rows) {
        cache.read_kv(layer, tokens, rows);
      };
  bool commits_anything = false, truncates_length_only = false;
  std::size_t committed = 0;

  std::size_t length() const { return committed; }
  Ticket write_kv(std::size_t layer, TokenRange tokens, KvRows rows) {
    writing(*this, layer, tokens, rows);
    return {};
  }
  Ticket read_kv(std::size_t layer, TokenRange tokens, MutableKvRows rows) const {
    reading(*this, layer, tokens, rows);
    return {};
  }
  void commit(std::size_t count) {
    if (!commits_anything) HostKvCache::commit(count);
    committed = count;
  }
  void truncate(std::size_t count) {
    if (!truncates_length_only) HostKvCache::truncate(count);
    committed = std::min(committed, count);
  }
};
static_assert(krul::KvCache<FaultyCache>);

template <class PutIn>
bool cache_check_finds(std::string_view name, PutIn&& put_in) {
  const krul::Geometry geometry{.layers = 3, .kv_heads = 2, .head_dim = 4};
  const std::function<FaultyCache(std::size_t)> make = [&](std::size_t capacity) {
    FaultyCache cache(geometry, capacity);
    put_in(cache);
    return cache;
  };
  return finds(krul::check_kv_cache(make, geometry), name);
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

TEST_CASE("a backend and a cache without a fault pass") {
  Faulty model;
  krul::test::require_conformance(krul::check_backend(model));
  CHECK_FALSE(cache_check_finds("bit for bit", [](FaultyCache&) {}));
}

TEST_CASE("check_backend finds embeddings that depend on more than a token and its position") {
  // Each adds something of order 1 to the hidden states, so that passes change with it or not.
  const auto added = [](auto&& offset_of) {
    return [offset_of](Faulty& model) {
      model.embedding = [offset_of](const Toy& toy, std::span<const Token> tokens, Batch& batch) {
        toy.embed(tokens, batch);
        const std::size_t width = toy.geometry().hidden;
        for (std::size_t row = 0; row < tokens.size(); ++row) batch.hidden()[row * width] += offset_of(tokens, row);
      };
    };
  };
  const auto index = [](std::span<const Token>, std::size_t row) { return 0.1F * static_cast<float>(row); };
  const auto before = [](std::span<const Token> tokens, std::size_t row) {
    return row == 0 ? 0.0F : 0.1F * static_cast<float>(tokens[row - 1]);
  };
  const auto calls = [made = std::make_shared<std::atomic<int>>()](std::span<const Token>, std::size_t) {
    return 0.001F * static_cast<float>(++*made);
  };
  CHECK(backend_check_finds("embed: a row depends", added(index)));
  CHECK(backend_check_finds("embed: a row depends", added(before)));
  CHECK(backend_check_finds("embed: a row depends", added(calls)));
  CHECK(backend_check_finds("a conversation runs through", [](Faulty& model) {
    model.embedding = [](const Toy& toy, std::span<const Token> tokens, Batch& batch) {
      toy.embed(tokens, batch);
      batch.hidden()[0] = std::numeric_limits<float>::infinity();
    };
  }));
}

TEST_CASE("check_backend takes embeddings with learned positions") {
  Faulty model;
  model.embedding = [](const Toy& toy, std::span<const Token> tokens, Batch& batch) {
    toy.embed(tokens, batch);
    const std::size_t width = toy.geometry().hidden;
    for (std::size_t i = 0; i < tokens.size() * width; ++i)
      batch.hidden()[i] += std::sin(0.37F * static_cast<float>(batch.positions()[i / width] * (i % width + 1)));
  };
  krul::test::require_conformance(krul::check_backend(model));
}

TEST_CASE("check_backend finds a rotary embedding that is not the declared one") {
  const auto declared = [](krul::Rotary rotary) {
    return [rotary](Faulty& model) {
      model.shape.rotary = rotary;
      model.described.geometry = krul::describe(model.shape);
    };
  };
  using krul::RotaryPairs;
  constexpr std::string_view name = "rotary: without the declared embedding";
  CHECK(backend_check_finds(name, declared({.pairs = RotaryPairs::interleaved, .dimensions = 8})));
  CHECK(backend_check_finds(name, declared({.pairs = RotaryPairs::halves, .dimensions = 4})));
  CHECK(backend_check_finds(name, declared({.pairs = RotaryPairs::halves, .dimensions = 8, .base = 500000.0})));
  CHECK_FALSE(backend_check_finds(name, declared({.pairs = RotaryPairs::halves, .dimensions = 8})));
  // Other rotary embeddings than Rotary can say, and learned positions, declare none.
  Faulty model;
  declared({})(model);
  krul::test::require_conformance(krul::check_backend(model));
}

TEST_CASE("check_backend finds what project does wrong") {
  CHECK(backend_check_finds("KvWrite::missing", [](Faulty& model) {  // writes rows that are present
    model.projection = [](const Toy& toy, std::size_t layer, Batch& batch, Cache& cache, KvWrite write) {
      toy.project(layer, batch, cache, write == KvWrite::missing ? KvWrite::all : write);
    };
  }));
  CHECK(backend_check_finds("KvWrite::none", [](Faulty& model) {  // writes always
    model.projection = [](const Toy& toy, std::size_t layer, Batch& batch, Cache& cache, KvWrite) {
      toy.project(layer, batch, cache, KvWrite::all);
    };
  }));
  CHECK(backend_check_finds("only the rows of the batch", [](Faulty& model) {  // writes one row more
    model.projection = [](const Toy& toy, std::size_t layer, Batch& batch, Cache& cache, KvWrite write) {
      toy.project(layer, batch, cache, write);
      const std::size_t next = behind(batch);
      const auto zeros = zero_row(toy);
      if (write != KvWrite::none && next < cache.capacity()) cache.write_kv(layer, {next, next + 1}, {zeros, zeros});
    };
  }));
  CHECK(backend_check_finds("beyond the cache's capacity", [](Faulty& model) {  // drops rows without a word
    model.projection = [](const Toy& toy, std::size_t layer, Batch& batch, Cache& cache, KvWrite write) {
      if (behind(batch) <= cache.capacity()) toy.project(layer, batch, cache, write);
    };
  }));
}

TEST_CASE("check_backend finds what attend does wrong") {
  CHECK(backend_check_finds("a key that a row sees", [](Faulty& model) {  // takes absent keys as zero
    model.attention = [](const Toy& toy, std::size_t layer, Batch& batch, Cache& cache, const Observer& observer) {
      krul::expects(layer < toy.geometry().layers, "no such layer");
      const auto zeros = zero_row(toy);
      for (const auto& gap : cache.present(layer).missing({0, behind(batch)}))
        for (std::size_t row = gap.begin; row < gap.end; ++row) cache.write_kv(layer, {row, row + 1}, {zeros, zeros});
      toy.attend(layer, batch, cache, observer);
    };
  }));
  CHECK(backend_check_finds("keys that no row sees", [](Faulty& model) {  // wants the cache full
    model.attention = [](const Toy& toy, std::size_t layer, Batch& batch, Cache& cache, const Observer& observer) {
      krul::expects(layer < 4 && cache.present(layer).contains({0, cache.capacity()}), "not full");
      toy.attend(layer, batch, cache, observer);
    };
  }));
  CHECK(backend_check_finds("recomputed prefix", [](Faulty& model) {  // commits by itself
    model.attention = [](const Toy& toy, std::size_t layer, Batch& batch, Cache& cache, const Observer& observer) {
      toy.attend(layer, batch, cache, observer);
      if (layer == 3) cache.commit(behind(batch));
    };
  }));
  for (const auto* check : {"in pieces", "token by token", "recomputed prefix", "dropped between"})
    CHECK(backend_check_finds(check, [](Faulty& model) {  // a row depends on how many there are
      model.attention = [](const Toy& toy, std::size_t layer, Batch& batch, Cache& cache, const Observer& observer) {
        toy.attend(layer, batch, cache, observer);
        for (auto& value : batch.attention()) value *= 1 + 0.05F * static_cast<float>(batch.rows());
      };
    }));
}

TEST_CASE("check_backend finds what an observer is shown wrong") {
  using Weights = std::vector<float>;
  const std::function<void(Weights&, AttentionBlock&)> faults[] = {
      [](Weights& weights, AttentionBlock& block) { std::swap(weights[0], weights[block.keys - 1]); },  // looks ahead
      [](Weights& weights, AttentionBlock&) { weights[0] *= 0.99F; },
      [](Weights& weights, AttentionBlock&) { weights[0] = -weights[0]; },
      [](Weights& weights, AttentionBlock&) { weights.pop_back(); },
      [](Weights&, AttentionBlock& block) { block.layer = 0; },
      [](Weights&, AttentionBlock& block) { block.query_heads = 1; },
  };
  const auto check = [](std::size_t times, const std::function<void(Weights&, AttentionBlock&)>& fault) {
    return backend_check_finds("observer", [&](Faulty& model) {
      model.attention = [&](const Toy& toy, std::size_t layer, Batch& batch, Cache& cache, const Observer& observer) {
        toy.attend(layer, batch, cache, [&](const AttentionBlock& block) {
          Weights weights(block.weights.begin(), block.weights.end());
          AttentionBlock shown = block;
          fault(weights, shown);
          shown.weights = weights;
          for (std::size_t time = 0; time < times; ++time) observer(shown);
        });
      };
    });
  };
  for (const auto& fault : faults) CHECK(check(1, fault));
  const auto none = [](Weights&, AttentionBlock&) {};
  CHECK(check(0, none));
  CHECK_FALSE(check(1, none));
  CHECK(check(2, none));
}

TEST_CASE("check_backend finds state that outlives a pass") {
  CHECK(backend_check_finds("step by step in turn", [](Faulty& model) {  // the last pass that began
    const auto token = std::make_shared<std::atomic<Token>>(0);
    model.embedding = [token](const Toy& toy, std::span<const Token> tokens, Batch& batch) {
      toy.embed(tokens, batch);
      *token = tokens.back();
    };
    model.finishing = [token](const Toy& toy, std::size_t layer, Batch& batch) {
      toy.finish(layer, batch);
      for (auto& value : batch.hidden()) value += static_cast<float>(*token);
    };
  }));
  for (const auto* check : {"same bits", "two threads"})
    CHECK(backend_check_finds(check, [](Faulty& model) {
      const auto calls = std::make_shared<std::atomic<int>>(0);
      model.last = [calls](const Toy& toy, Batch& batch, RowRange rows, std::span<float> out) {
        toy.logits(batch, rows, out);
        out[0] += 1e-6F * static_cast<float>(++*calls);
      };
    }));
}

TEST_CASE("check_backend finds wrong logits and mistakes that pass") {
  CHECK(backend_check_finds("any range of rows", [](Faulty& model) {  // always the first rows
    model.last = [](const Toy& toy, Batch& batch, RowRange rows, std::span<float> out) {
      krul::expects(rows.end <= batch.rows(), "no such rows");
      toy.logits(batch, {0, rows.size()}, out);
    };
  }));
  CHECK(backend_check_finds("logits that do not fit", [](Faulty& model) {  // as many as there is room for
    model.last = [](const Toy& toy, Batch& batch, RowRange rows, std::span<float> out) {
      std::vector<float> all(rows.size() * toy.geometry().vocabulary);
      toy.logits(batch, rows, all);
      std::copy_n(all.begin(), std::min(all.size(), out.size()), out.begin());
    };
  }));
  CHECK(backend_check_finds("another conversation", [](Faulty& model) {  // ignores its tokens
    model.embedding = [](const Toy& toy, std::span<const Token> tokens, Batch& batch) {
      toy.embed(std::vector<Token>(tokens.size(), 0), batch);
    };
  }));
  CHECK(backend_check_finds("outside of the vocabulary", [](Faulty& model) {
    model.embedding = [](const Toy& toy, std::span<const Token> tokens, Batch& batch) {
      std::vector<Token> valid(tokens.begin(), tokens.end());
      for (auto& token : valid) token = std::clamp(token, 0, 63);
      toy.embed(valid, batch);
    };
  }));
  CHECK(backend_check_finds("layers beyond the last", [](Faulty& model) {
    model.finishing = [](const Toy& toy, std::size_t layer, Batch& batch) {
      toy.finish(std::min<std::size_t>(layer, 3), batch);
    };
  }));
  CHECK(backend_check_finds("dropped between", [](Faulty& model) { model.forgetful_batch = true; }));
}

TEST_CASE("check_backend finds descriptions that cannot be") {
  CHECK(backend_check_finds("identity", [](Faulty& model) { model.described = {}; }));
  CHECK(backend_check_finds("identity", [](Faulty& model) { model.described.geometry = "L=1"; }));
  CHECK(backend_check_finds("geometry is possible", [](Faulty& model) { model.shape.query_heads = 3; }));
  CHECK(backend_check_finds("geometry is possible", [](Faulty& model) { model.shape.rotary.dimensions = 10; }));
  CHECK(backend_check_finds("geometry is possible", [](Faulty& model) { model.shape.context = 39; }));
}

TEST_CASE("check_kv_cache finds faulty caches") {
  CHECK(cache_check_finds("starts empty", [](FaultyCache& cache) { cache.mark_present(0, {0, 1}); }));
  CHECK(cache_check_finds("bit for bit", [](FaultyCache& cache) {
    cache.reading = [](const HostKvCache& host, std::size_t layer, TokenRange tokens, MutableKvRows rows) {
      host.read_kv(layer, tokens, rows);
      if (tokens.begin == 7) rows.values[0] ^= std::byte{1};
    };
  }));
  CHECK(cache_check_finds("does not name", [](FaultyCache& cache) {  // spills over into the row before
    cache.writing = [](HostKvCache& host, std::size_t layer, TokenRange tokens, KvRows rows) {
      host.write_kv(layer, tokens, rows);
      if (tokens.begin == 0 || tokens.empty()) return;
      const auto row = rows.keys.first(rows.keys.size() / tokens.size());
      host.write_kv(layer, {tokens.begin - 1, tokens.begin}, {row, row});
    };
  }));
  CHECK(cache_check_finds("exactly the rows", [](FaultyCache& cache) {  // rounds up to whole blocks of four
    cache.writing = [](HostKvCache& host, std::size_t layer, TokenRange tokens, KvRows rows) {
      host.write_kv(layer, tokens, rows);
      host.mark_present(layer, {tokens.begin, std::min(host.capacity(), (tokens.end + 3) / 4 * 4)});
    };
  }));
  CHECK(cache_check_finds("not there is refused", [](FaultyCache& cache) {
    cache.reading = [](const HostKvCache& host, std::size_t layer, TokenRange tokens, MutableKvRows rows) {
      if (layer >= 3 || host.present(layer).contains(tokens)) host.read_kv(layer, tokens, rows);
    };
  }));
  CHECK(cache_check_finds("commit needs", [](FaultyCache& cache) { cache.commits_anything = true; }));
  CHECK(cache_check_finds("truncate forgets", [](FaultyCache& cache) { cache.truncates_length_only = true; }));
  CHECK(cache_check_finds("beyond the capacity", [](FaultyCache& cache) {
    cache.writing = [](HostKvCache& host, std::size_t layer, TokenRange tokens, KvRows rows) {
      if (tokens.end <= host.capacity()) host.write_kv(layer, tokens, rows);
    };
  }));
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
