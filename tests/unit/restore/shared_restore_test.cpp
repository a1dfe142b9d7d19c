// Restores of what plans of saving left out, merged or replaced.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <cstring>
#include <mutex>

#include "krul/compress/direct_reuse.hpp"
#include "krul/compress/exact_codec.hpp"
#include "krul/compress/layer_pair_compressor.hpp"
#include "krul/compress/slerp_merge.hpp"
#include "krul/conversation/save.hpp"
#include "krul/core/half.hpp"
#include "krul/restore/predict.hpp"
#include "krul/restore/restoration_scheduler.hpp"
#include "krul/restore/restore_by_tokens.hpp"
#include "krul/store/faulty_store.hpp"
#include "krul/strategy/catalogue.hpp"
#include "krul/strategy/catalogue/all.hpp"
#include "support/toy_conversation.hpp"

namespace krul {
namespace {

using test::flip_byte;
using test::run_through;
using test::toy_tokens;

constexpr std::size_t history_tokens = 100, block_tokens = 16, layers = 4;

struct SharedSaved {
  toy::Backend model{ElementType::f32};
  MemoryStore store;
  std::vector<Token> tokens = toy_tokens(history_tokens + 5);
  test::Uninterrupted whole = run_through(model, tokens);
  Workers workers{2};
  Manifest manifest;
  std::string folder = conversation_folder("saved").value();

  explicit SharedSaved(const SavePlan& plan) {
    const std::vector<Token> before(tokens.begin(), tokens.begin() + history_tokens);
    auto cache = model.make_cache(256);
    auto batch = model.make_batch();
    HiddenStates hidden(model.geometry());
    forward_keeping_hidden(model, cache, batch, before, hidden);
    REQUIRE(
        save_as(model, store, cache, before, {.id = "saved", .plan = plan, .source = &hidden, .block = block_tokens}));
    manifest = load_manifest(store, folder)->manifest;
  }

  struct Outcome {
    RestoreReport report;
    toy::Backend::Cache cache;
    std::vector<float> logits;
  };

  [[nodiscard]] RestoreSizes sizes() const {
    return restore_sizes(manifest, history_tokens, tokens.size() - history_tokens);
  }

  Outcome restored(std::optional<std::vector<std::size_t>> prefix = {}, std::optional<TokenSplit> split = {}) {
    if (!prefix) prefix = AsStored{}.prefix(sizes(), {});
    Outcome outcome{{}, model.make_cache(256), std::vector<float>(model.geometry().vocabulary)};
    const RestoreJob<toy::Backend, MemoryStore> job{
        .model = model,
        .store = store,
        .cache = outcome.cache,
        .workers = workers,
        .manifest = manifest,
        .folder = folder,
        .plan = {history_tokens, tokens.size() - history_tokens, block_tokens, *prefix},
        .tokens = tokens,
        .logits = outcome.logits};
    outcome.report = split ? restore_by_tokens(job, *split).value() : restore(job).value();
    return outcome;
  }

  /// [T, G, D] of one layer as numbers; K or V.
  std::vector<float> rows(toy::Backend::Cache& cache, std::size_t layer, bool values, TokenRange range) const {
    const std::size_t width = model.geometry().kv_values(), bytes = model.geometry().kv_row_bytes();
    std::vector<float> numbers(range.size() * width);
    const auto view = values ? cache.view(layer).values : cache.view(layer).keys;
    to_float(ElementType::f32, view.subspan(range.begin * bytes, range.size() * bytes), numbers);
    return numbers;
  }
};

SavePlan exact() {
  return SavePlan::separate(ExactCodec{});
}

SavePlan reuse(std::vector<LayerPair> pairs) {
  SavePlan plan = exact();
  plan.pairs = std::move(pairs);
  plan.pair_coding = LayerPairCompressor(DirectReuse{}, ExactCodec{});
  return plan;
}

TEST_CASE("a front that was left out is recomputed, and nothing of it is stored") {
  SavePlan plan = exact();
  plan.left_out = {96, 64, 16, 0};
  SharedSaved saved(plan);
  for (std::size_t layer = 0; layer < layers; ++layer)
    CHECK(unstored_front(saved.manifest, layer, history_tokens) == plan.left_out[layer]);
  CHECK(saved.store.used() < SharedSaved(exact()).store.used());
  CHECK(lost_blocks(saved.store, saved.folder, saved.manifest, history_tokens).all.empty());
  const auto outcome = saved.restored();
  CHECK(outcome.report.plan.prefix == plan.left_out);
  CHECK(outcome.logits == saved.whole.logits);
  CHECK(outcome.report.recomputed_rows == 96 + 64 + 16);
  CHECK(outcome.report.reasons.empty());
  // More may be recomputed than must be, less may not.
  CHECK(saved.restored(std::vector<std::size_t>{100, 96, 32, 16}).logits == saved.whole.logits);
  CHECK_THROWS_AS((void)saved.restored(std::vector<std::size_t>{96, 64, 0, 0}), PreconditionError);
  CHECK_THROWS_AS((void)predict({history_tokens, 5, block_tokens, {96, 64, 0, 0}}, saved.sizes(), {}),
                  PreconditionError);
}

TEST_CASE("the whole history may be left out: only the tokens are kept") {
  SavePlan plan = exact();
  plan.left_out.assign(layers, history_tokens);
  SharedSaved saved(plan);
  CHECK(saved.manifest.objects.empty());
  const auto outcome = saved.restored();
  CHECK(outcome.logits == saved.whole.logits);
  CHECK(outcome.report.bytes == 0);
  CHECK(saved.restored({}, TokenSplit{}).logits == saved.whole.logits);
}

TEST_CASE("a plan asks a policy for no less than what is not stored") {
  SavePlan plan = exact();
  plan.left_out = {64, 64, 32, 0};
  SharedSaved saved(plan);
  const Costs costs{.link = {.bytes_per_s = 1e12}, .layer = {.project_row_s = 1, .finish_row_s = 1}};
  CHECK(RestorationScheduler<>{}.plan(saved.sizes(), costs).prefix == plan.left_out);
  CHECK(RestorationScheduler<FullRecompute>{}.plan(saved.sizes(), costs).prefix ==
        std::vector<std::size_t>(layers, history_tokens));
}

TEST_CASE("a pair's chunk is stored and read once and fills both layers") {
  SharedSaved separate(exact()), saved(reuse({{0, 2}, {1, 3}}));
  const RestoreReport all = separate.restored().report;
  auto outcome = saved.restored();
  CHECK(outcome.report.bytes == all.bytes / 2 + 2 * saved.manifest.blocks());  // a byte of flags for each chunk
  CHECK(outcome.report.loaded_rows == layers * history_tokens);
  for (const bool values : {false, true})
    for (std::size_t layer = 0; layer < 2; ++layer) {
      const auto own = saved.rows(outcome.cache, layer, values, {0, history_tokens});
      CHECK(own == saved.rows(saved.whole.cache, layer, values, {0, history_tokens}));
      CHECK(own == saved.rows(outcome.cache, layer + 2, values, {0, history_tokens}));
    }
  CHECK(predict(outcome.report.plan, saved.sizes(), {}).bytes == outcome.report.bytes);
}

TEST_CASE("where only the deeper layer of a pair keeps a row, it keeps its own") {
  SavePlan plan = reuse({{0, 3}});
  plan.left_out = {64, 32, 32, 16};
  SharedSaved saved(plan);
  auto outcome = saved.restored();
  CHECK(outcome.report.plan.prefix == plan.left_out);
  // Layer 3: recomputed before 16, its own rows before 64, layer 0's behind.
  const auto deep = [&](TokenRange range) { return saved.rows(outcome.cache, 3, true, range); };
  CHECK(deep({16, 64}) == saved.rows(saved.whole.cache, 3, true, {16, 64}));
  CHECK(deep({64, history_tokens}) == saved.rows(saved.whole.cache, 0, true, {64, history_tokens}));
  CHECK(predict(outcome.report.plan, saved.sizes(), {}).bytes == outcome.report.bytes);

  // A restore that recomputes more of the shallower layer reads the shared chunk for the deeper one, and leaves what
  // was recomputed alone.
  auto more = saved.restored(std::vector<std::size_t>{96, 32, 32, 16});
  CHECK(saved.rows(more.cache, 0, true, {0, history_tokens}) ==
        saved.rows(saved.whole.cache, 0, true, {0, history_tokens}));
  CHECK(saved.rows(more.cache, 3, true, {64, 96}) == saved.rows(saved.whole.cache, 0, true, {64, 96}));
  CHECK(predict(more.report.plan, saved.sizes(), {}).bytes == more.report.bytes);
}

TEST_CASE("a damaged shared chunk is recomputed in both layers") {
  SharedSaved saved(reuse({{0, 2}}));
  const ChunkRecord chunk = saved.manifest.chunk(0, 3);
  CHECK(chunk == saved.manifest.chunk(2, 3));
  flip_byte(saved.store, saved.folder + "/" + saved.manifest.objects[chunk.object], chunk.offset);
  auto outcome = saved.restored();
  CHECK(outcome.report.repaired_rows == 2 * block_tokens);
  REQUIRE(outcome.report.reasons.size() == 1);
  CHECK(outcome.report.reasons.front().find(" and ") != std::string::npos);
  CHECK(outcome.report.damaged_blocks.size() == 1);
  // Layer 0's rows are the exact ones again; layer 2's come of them and of layer 0's rows in place of its own
  // elsewhere.
  CHECK(saved.rows(outcome.cache, 0, false, {48, 64}) == saved.rows(saved.whole.cache, 0, false, {48, 64}));
  CHECK(outcome.cache.present(2).contains({0, history_tokens}));
}

TEST_CASE("a layer of which a block of its own and a later, shared one are damaged computes both") {
  SavePlan plan = reuse({{0, 3}});
  plan.left_out = {64, 32, 32, 16};
  SharedSaved saved(plan);
  for (const std::size_t block : {2, 5}) {  // the second is read first, with layer 0
    const ChunkRecord chunk = saved.manifest.chunk(3, block);
    CHECK((chunk == saved.manifest.chunk(0, block)) == (block == 5));
    flip_byte(saved.store, saved.folder + "/" + saved.manifest.objects[chunk.object], chunk.offset);
  }
  auto outcome = saved.restored();
  CHECK(outcome.report.repaired_rows == 3 * block_tokens);
  CHECK(outcome.report.damaged_blocks == std::vector<std::size_t>{2, 5});
  for (std::size_t layer = 0; layer < layers; ++layer)
    CHECK(outcome.cache.present(layer).contains({0, history_tokens}));
}

TEST_CASE(
    "fronts that a later save leaves out are forgotten, with their bytes; shared chunks stay while one needs them") {
  SavePlan plan = reuse({{0, 3}});
  SharedSaved saved(plan);
  const auto run = run_through(saved.model, toy_tokens(history_tokens + 60));
  plan.left_out = {96, 64, 64, 32};
  const std::uint64_t before = saved.store.used();
  const SaveJob<toy::Backend::Cache, MemoryStore> job{.store = saved.store,
                                                      .folder = saved.folder,
                                                      .cache = run.cache,
                                                      .geometry = saved.model.geometry(),
                                                      .workers = saved.workers,
                                                      .plan = plan};
  REQUIRE(save_conversation(job, saved.manifest, toy_tokens(history_tokens + 60), history_tokens));
  REQUIRE(validate(saved.manifest));
  // Layer 0 keeps what layer 3 reads anyway.
  CHECK(unstored_front(saved.manifest, 0, history_tokens) == 32);
  CHECK(unstored_front(saved.manifest, 1, history_tokens) == 64);
  CHECK(unstored_front(saved.manifest, 3, history_tokens) == 32);
  CHECK(saved.store.used() < before + 60 * 3 * 2 * saved.model.geometry().kv_row_bytes());
  std::uint64_t live = 0, stored = 0;
  for (const auto& object : saved.manifest.objects) stored += saved.store.size(saved.folder + "/" + object).value();
  const SharedChunks shared(saved.manifest, saved.manifest.blocks());
  for (std::size_t layer = 0; layer < layers; ++layer)
    for (std::size_t b = 0; b < saved.manifest.blocks(); ++b)
      if (shared.shallower(layer, b) < 0) live += saved.manifest.chunk(layer, b).bytes;
  CHECK(live * 4 >= stored * 3);
  const auto outcome = saved.restored();
  CHECK(outcome.report.reasons.empty());
  CHECK(outcome.report.plan.prefix == std::vector<std::size_t>{64, 64, 64, 32});
}

TEST_CASE("hidden states are projected to the rows they came from, within two bytes a value") {
  SavePlan plan = exact();
  plan.from_source = {false, true, true, false};
  plan.left_out = {history_tokens, 0, 0, 0};
  SharedSaved saved(plan);
  auto outcome = saved.restored();
  CHECK(outcome.report.reasons.empty());
  CHECK(saved.rows(outcome.cache, 0, true, {0, history_tokens}) ==
        saved.rows(saved.whole.cache, 0, true, {0, history_tokens}));
  CHECK(saved.rows(outcome.cache, 3, true, {0, history_tokens}) ==
        saved.rows(saved.whole.cache, 3, true, {0, history_tokens}));
  for (const std::size_t layer : {std::size_t{1}, std::size_t{2}}) {
    const auto back = saved.rows(outcome.cache, layer, true, {0, history_tokens});
    const auto whole = saved.rows(saved.whole.cache, layer, true, {0, history_tokens});
    double error = 0, size = 0;
    for (std::size_t i = 0; i < back.size(); ++i) {
      error = std::max<double>(error, std::abs(back[i] - whole[i]));
      size = std::max<double>(size, std::abs(whole[i]));
    }
    CHECK(error > 0);
    // The norm keeps relative errors, and 32 products of one each add up to at most sqrt(32) of the row's size times
    // 2^-11; 8 allows for rows that are smaller than the weights make them.
    CHECK(error <= 8 * std::sqrt(32.0) * 0x1p-11 * size);
  }
  CHECK(saved.sizes().layers[1].projected_share == 1);
  CHECK(saved.sizes().layers[3].projected_share == 0);
  const ChunkRecord chunk = saved.manifest.chunk(1, 2);
  flip_byte(saved.store, saved.folder + "/" + saved.manifest.objects[chunk.object], chunk.offset);
  CHECK(saved.restored().report.repaired_rows == block_tokens);
}

TEST_CASE("hidden states give the bits of their projection, layer by layer and token by token") {
  SavePlan plan = exact();
  plan.from_source = {false, true, true, false};
  SharedSaved saved(plan);
  auto by_layer = saved.restored(), by_tokens = saved.restored({}, TokenSplit{0, 16});
  CHECK(by_tokens.report.reasons.empty());
  CHECK(by_tokens.report.loaded_rows == history_tokens * layers);
  auto projected = saved.model.make_cache(256), whole = saved.model.make_cache(256);
  auto batch = saved.model.make_batch();
  HiddenStates hidden(saved.model.geometry());
  const auto history = std::span(saved.tokens).first(history_tokens);
  forward_keeping_hidden(saved.model, whole, batch, history, hidden);
  for (const std::size_t layer : {std::size_t{1}, std::size_t{2}}) {
    const auto chunk = hidden.encode(layer, {0, history_tokens});
    const ProjectedChunk all[] = {{{0, history_tokens}, chunk}};
    project_chunks(saved.model, projected, layer, std::span(all));
    for (const bool values : {false, true}) {
      const auto expected = saved.rows(projected, layer, values, {0, history_tokens});
      CHECK(saved.rows(by_layer.cache, layer, values, {0, history_tokens}) == expected);
      CHECK(saved.rows(by_tokens.cache, layer, values, {0, history_tokens}) == expected);
    }
  }
}

TEST_CASE("a layer of which some blocks are projected costs that much of a projection") {
  SavePlan plan = exact();
  plan.from_source = {true, false, false, false};
  SharedSaved saved(plan);
  Manifest mixed = saved.manifest;
  for (std::size_t block = 0; block < 3; ++block) mixed.chunks[block].codec = mixed.chunk(1, block).codec;
  CHECK(restore_sizes(mixed, history_tokens, 5).layers[0].projected_share == 4.0 / 7);  // of 7 blocks
  Costs costs;
  costs.layer.decode_row_s = 1;
  costs.layer.project_row_s = 7;
  CHECK(Predictor(restore_sizes(mixed, history_tokens, 5), costs).decode_row_s(0) == doctest::Approx(1 + 4));
}

TEST_CASE("layers that share a chunk to be projected are recomputed: it is of one layer") {
  SavePlan plan = exact();
  plan.from_source = {false, true, true, false};
  SharedSaved saved(plan);
  saved.manifest.chunks[2 * saved.manifest.blocks()] = saved.manifest.chunk(1, 0);
  const auto outcome = saved.restored();
  CHECK(outcome.report.repaired_rows == 2 * block_tokens);
  CHECK_FALSE(outcome.report.reasons.empty());
}

TEST_CASE("token by token, with and without a given front, gives the bits of the uninterrupted run") {
  SavePlan plan = exact();
  for (const SegmentOrder order : {SegmentOrder::by_block, SegmentOrder::by_layer}) {
    plan.order = order;
    SharedSaved saved(plan);
    for (const std::optional<std::size_t> front :
         std::vector<std::optional<std::size_t>>{std::nullopt, 0, 16, 48, 96, history_tokens})
      for (const std::size_t chunk : {std::size_t{7}, std::size_t{16}, std::size_t{512}}) {
        const auto outcome = saved.restored({}, TokenSplit{front, chunk});
        CHECK(outcome.logits == saved.whole.logits);
        CHECK(outcome.cache.length() == saved.tokens.size());
        CHECK(outcome.report.reasons.empty());
        if (front) CHECK(outcome.report.recomputed_tokens() == *front);
      }
    CHECK_THROWS_AS((void)saved.restored({}, TokenSplit{0, 0}), PreconditionError);
  }
}

TEST_CASE("token by token, a damaged block ends the reading and everything before it is recomputed") {
  SharedSaved saved(exact());
  const ChunkRecord chunk = saved.manifest.chunk(2, 4);
  flip_byte(saved.store, saved.folder + "/" + saved.manifest.objects[chunk.object], chunk.offset);
  const auto outcome = saved.restored({}, TokenSplit{16, 16});
  CHECK(outcome.logits == saved.whole.logits);
  CHECK(outcome.report.recomputed_tokens() == 80);
  REQUIRE(outcome.report.reasons.size() == 1);
  CHECK(outcome.report.reasons[0].find("block 4") != std::string::npos);
}

TEST_CASE("reads go backwards, whole blocks at a time, and neighbours are one request where they lie that way") {
  SavePlan plan = exact();
  plan.order = SegmentOrder::by_block;
  SharedSaved saved(plan);
  const auto requests = read_requests_backwards(saved.manifest, 2, 7, {4});
  REQUIRE(requests.size() == 4);  // blocks 6, 5, 3, 2
  CHECK(requests[0].chunks.size() == layers);
  CHECK(requests[0].chunks[0].block == 6);
  CHECK(requests[2].chunks[0].block == 3);
}

/// Ends every second read only after the next one has ended.
struct ReorderingStore {
  MemoryStore& store;
  std::mutex mutex;
  std::condition_variable changed;
  std::size_t begun = 0, ended = 0, pairs_swapped = 0;
  std::size_t reads = 0;  ///< how many there will be

  using Lock = MemoryStore::Lock;
  Status put(const std::string& key, std::span<const std::byte> bytes) { return store.put(key, bytes); }
  Status get(const std::string& key, std::uint64_t offset, std::span<std::byte> to) {
    std::unique_lock lock(mutex);
    const std::size_t number = begun++;
    const Status status = store.get(key, offset, to);
    if (number % 2 == 0 && number + 1 < reads) {
      changed.wait(lock, [&] { return ended > number; });
      ++pairs_swapped;
    }
    ++ended;
    changed.notify_all();
    return status;
  }
  Result<std::uint64_t> size(const std::string& key) { return store.size(key); }
  Status erase(const std::string& key) { return store.erase(key); }
  Result<std::vector<std::string>> list(const std::string& folder) { return store.list(folder); }
  Result<Lock> lock(const std::string& folder) { return store.lock(folder); }
  StoreCapabilities capabilities() const { return store.capabilities(); }
};
static_assert(ConversationStore<ReorderingStore>);

TEST_CASE("a store that delays and reorders reads changes no bit") {
  for (const bool merged : {false, true}) {
    SharedSaved saved(merged ? reuse({{0, 2}}) : exact());
    const RestorePlan plan{history_tokens, saved.tokens.size() - history_tokens, block_tokens, {48, 32, 16, 0}};
    auto expected = saved.restored(plan.prefix);
    ReorderingStore store{.store = saved.store, .mutex = {}, .changed = {}};
    store.reads = read_requests(plan, saved.manifest, {}).size();
    REQUIRE(store.reads >= 3);
    auto cache = saved.model.make_cache(256);
    std::vector<float> logits(saved.model.geometry().vocabulary);
    const RestoreJob<toy::Backend, ReorderingStore> job{.model = saved.model,
                                                        .store = store,
                                                        .cache = cache,
                                                        .workers = saved.workers,
                                                        .manifest = saved.manifest,
                                                        .folder = saved.folder,
                                                        .plan = plan,
                                                        .tokens = saved.tokens,
                                                        .logits = logits,
                                                        .control = {.readers = 3}};
    const RestoreReport report = restore(job).value();
    CHECK(store.pairs_swapped >= 1);
    CHECK(report.reasons.empty());
    CHECK(logits == expected.logits);
    for (std::size_t layer = 0; layer < layers; ++layer)
      for (const bool values : {false, true})
        CHECK(saved.rows(cache, layer, values, {0, saved.tokens.size()}) ==
              saved.rows(expected.cache, layer, values, {0, saved.tokens.size()}));
  }
}

TEST_CASE("plans that do not fit are the caller's mistake") {
  const auto refuses = [](auto&& change) {
    SavePlan plan = exact();
    change(plan);
    CHECK_THROWS_AS(expects_valid(plan, layers), PreconditionError);
  };
  refuses([](SavePlan& plan) { plan.pairs = {{1, 0}}; });
  refuses([](SavePlan& plan) { plan.pairs = {{0, 4}}; });
  refuses([](SavePlan& plan) { plan = reuse({{0, 1}, {1, 2}}); });
  refuses([](SavePlan& plan) { plan.pairs = {{0, 1}}; });  // coded as single layers
  refuses([](SavePlan& plan) { plan.coding = LayerPairCompressor(SlerpMerge{}, ExactCodec{}); });
  refuses([](SavePlan& plan) { plan.left_out = {0, 16, 0, 0}; });
  refuses([](SavePlan& plan) { plan.left_out = {0}; });
  refuses([](SavePlan& plan) { plan.from_source = {true}; });
  refuses([](SavePlan& plan) {
    plan = reuse({{0, 1}});
    plan.from_source.assign(layers, true);
  });
}

}  // namespace
}  // namespace krul
