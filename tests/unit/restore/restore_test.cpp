#include "krul/restore/restore.hpp"
#include "krul/compress/any_codec.hpp"
#include "krul/compress/exact_codec.hpp"
#include "krul/compress/int8_codec.hpp"
#include "krul/core/half.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <stdexcept>

#include "krul/restore/restoration_scheduler.hpp"
#include "krul/restore/stored_state.hpp"
#include "krul/store/throttled_store.hpp"
#include "krul/strategy/catalogue.hpp"
#include "krul/strategy/catalogue/all.hpp"
#include "support/toy_conversation.hpp"

namespace krul {
namespace {

using test::flip_byte;
using test::run_through;
using test::toy_tokens;

constexpr std::size_t history = 100, block = 16;  // six whole blocks and one of four tokens

/// A history of the toy model, saved, and what the model says to the prompt without any saving.
struct Saved {
  toy::Backend model{ElementType::f32};
  MemoryStore store;
  std::vector<Token> tokens = toy_tokens(history + 5);
  test::Uninterrupted whole = run_through(model, tokens);
  Workers workers{2};
  Manifest manifest;
  std::string folder = conversation_folder("saved").value();

  explicit Saved(AnyRowCodec codec = ExactCodec{}) {
    const std::vector<Token> before(tokens.begin(), tokens.begin() + history);
    const auto first = run_through(model, before);
    REQUIRE(
        save_as(model, store, first.cache, before, {.id = "saved", .plan = SavePlan::separate(codec), .block = block}));
    manifest = load_manifest(store, folder)->manifest;
  }

  struct Outcome {
    RestoreReport report;
    toy::Backend::Cache cache;
    std::vector<float> logits;
  };

  template <ConversationStore S, Clock C = SteadyClock>
  Outcome restore_from(S& from, std::vector<std::size_t> prefix, C clock = {}) {
    Outcome outcome{{}, model.make_cache(256), std::vector<float>(model.geometry().vocabulary)};
    const RestoreJob<toy::Backend, S, C> job{.model = model,
                                             .store = from,
                                             .cache = outcome.cache,
                                             .workers = workers,
                                             .manifest = manifest,
                                             .folder = folder,
                                             .plan = {history, tokens.size() - history, block, std::move(prefix)},
                                             .tokens = tokens,
                                             .logits = outcome.logits,
                                             .clock = clock};
    outcome.report = restore(job).value();
    return outcome;
  }
  Outcome restore_from_store(std::vector<std::size_t> prefix) { return restore_from(store, std::move(prefix)); }
};

bool same_rows(const toy::Backend::Cache& a, const toy::Backend::Cache& b, std::size_t layer, TokenRange tokens,
               std::size_t row_bytes) {
  const auto same = [&](std::span<const std::byte> left, std::span<const std::byte> right) {
    return std::memcmp(&left[tokens.begin * row_bytes], &right[tokens.begin * row_bytes], tokens.size() * row_bytes) ==
           0;
  };
  return same(a.view(layer).keys, b.view(layer).keys) && same(a.view(layer).values, b.view(layer).values);
}

TEST_CASE("whatever is recomputed and whatever is loaded, exact rows give the bits of the uninterrupted run") {
  // The toy model computes each row by itself, in one order of operations, so that even recomputed rows are equal.
  Saved saved;
  const std::size_t row_bytes = saved.model.geometry().kv_row_bytes();
  for (const auto& prefix : std::vector<std::vector<std::size_t>>{{0, 0, 0, 0},
                                                                  {100, 100, 100, 100},
                                                                  {48, 48, 48, 48},
                                                                  {96, 64, 16, 0},
                                                                  {100, 96, 0, 0},
                                                                  {100, 100, 100, 0}}) {
    const auto outcome = saved.restore_from_store(prefix);
    CHECK(outcome.logits == saved.whole.logits);
    CHECK(outcome.cache.length() == saved.tokens.size());
    for (std::size_t layer = 0; layer < 4; ++layer)
      CHECK(same_rows(outcome.cache, saved.whole.cache, layer, {0, saved.tokens.size()}, row_bytes));
    std::size_t recomputed = 0;
    for (const std::size_t tokens : prefix) recomputed += tokens;
    CHECK(outcome.report.recomputed_rows == recomputed);
    CHECK(outcome.report.loaded_rows == 4 * history - recomputed);
    CHECK(outcome.report.repaired_rows == 0);
    CHECK(outcome.report.reasons.empty());
    CHECK((outcome.report.bytes > 0) == (recomputed < 4 * history));
  }
}

TEST_CASE("several rows of logits come from the prompt") {
  Saved saved;
  std::vector<float> logits(3 * saved.model.geometry().vocabulary);
  auto cache = saved.model.make_cache(256);
  const RestoreJob<toy::Backend, MemoryStore> job{.model = saved.model,
                                                  .store = saved.store,
                                                  .cache = cache,
                                                  .workers = saved.workers,
                                                  .manifest = saved.manifest,
                                                  .folder = saved.folder,
                                                  .plan = {history, 5, block, {64, 32, 32, 0}},
                                                  .tokens = saved.tokens,
                                                  .logits = logits};
  REQUIRE(restore(job));
  CHECK(std::equal(saved.whole.logits.begin(), saved.whole.logits.end(),
                   logits.end() - static_cast<std::ptrdiff_t>(saved.whole.logits.size())));
}

TEST_CASE("a damaged chunk is recomputed from its tokens, and the report says so") {
  for (const std::size_t layer : {std::size_t{0}, std::size_t{2}, std::size_t{3}}) {
    Saved saved;
    const ChunkRecord chunk = saved.manifest.chunk(layer, 3);
    flip_byte(saved.store, saved.folder + "/" + saved.manifest.objects[chunk.object], chunk.offset + chunk.bytes / 2);
    const auto outcome = saved.restore_from_store({32, 16, 0, 0});
    CHECK(outcome.logits == saved.whole.logits);
    CHECK(outcome.report.repaired_rows == block);
    REQUIRE(outcome.report.reasons.size() == 1);
    CHECK(outcome.report.reasons[0].find("layer " + std::to_string(layer) + ", block 3") != std::string::npos);
  }
}

TEST_CASE("damage in what is recomputed anyway does not matter") {
  Saved saved;
  const ChunkRecord chunk = saved.manifest.chunk(0, 1);
  flip_byte(saved.store, saved.folder + "/" + saved.manifest.objects[chunk.object], chunk.offset);
  const auto outcome = saved.restore_from_store({32, 16, 0, 0});
  CHECK(outcome.logits == saved.whole.logits);
  CHECK(outcome.report.reasons.empty());
}

/// A store of which a read ends in an exception.
struct ThrowingStore : MemoryStore {
  bool out_of_memory = false;
  int reads = 0;
  Status get(const std::string& key, std::uint64_t offset, std::span<std::byte> to) {
    if (++reads != 2) return MemoryStore::get(key, offset, to);
    if (out_of_memory) throw std::bad_alloc();
    throw std::runtime_error("the driver fell over");
  }
};

TEST_CASE("what is thrown in the thread that reads costs its rows and nothing else") {
  Saved saved;
  for (const bool out_of_memory : {true, false}) {
    ThrowingStore store{saved.store, out_of_memory};
    const auto outcome = saved.restore_from(store, {0, 0, 0, 0});
    CHECK(outcome.logits == saved.whole.logits);
    CHECK(outcome.report.repaired_rows > 0);
    REQUIRE(outcome.report.reasons.size() == 1);
    CHECK(outcome.report.reasons.front().find(out_of_memory ? "no memory" : "fell over") != std::string::npos);
    CHECK(outcome.report.damaged_blocks.empty());  // nobody said that what was written is lost
  }
}

TEST_CASE("a chunk that is whole but means nothing to this build is told as that, and saved again") {
  Saved saved;
  saved.manifest.chunks[2].codec = 0xee;
  const auto outcome = saved.restore_from_store({0, 0, 0, 0});
  CHECK(outcome.logits == saved.whole.logits);
  REQUIRE(outcome.report.reasons.size() == 1);
  CHECK(outcome.report.reasons.front().find("layer 0, block 2: whole, but") != std::string::npos);
  CHECK(outcome.report.damaged_blocks == std::vector<std::size_t>{2});
}

TEST_CASE("when everything is damaged the whole history is recomputed once") {
  Saved saved;
  for (const auto& chunk : saved.manifest.chunks)
    flip_byte(saved.store, saved.folder + "/" + saved.manifest.objects[chunk.object], chunk.offset);
  const auto outcome = saved.restore_from_store({0, 0, 0, 0});
  CHECK(outcome.report.recomputed_all);
  CHECK(outcome.logits == saved.whole.logits);
  CHECK(outcome.cache.length() == saved.tokens.size());
}

TEST_CASE("blocks of an object that is gone are recomputed in every layer, beside the rest") {
  Saved saved;
  // A second save puts the tail block and what follows it into an object of its own.
  const std::vector<Token> longer = toy_tokens(history + 40);
  const auto run = run_through(saved.model, longer);
  const SaveJob<toy::Backend::Cache, MemoryStore> job{
      saved.store, saved.folder, run.cache, saved.model.geometry(), saved.workers, SavePlan::separate(ExactCodec{})};
  REQUIRE(save_conversation(job, saved.manifest, longer, history));
  REQUIRE(saved.manifest.objects.size() == 2);
  REQUIRE(saved.store.erase(saved.folder + "/" + saved.manifest.objects[0]));
  const auto outcome = saved.restore_from_store({32, 16, 0, 0});
  CHECK(outcome.logits == saved.whole.logits);
  CHECK(outcome.report.repaired_rows == (96 - 32) + (96 - 16) + 96 + 96);
  CHECK_FALSE(outcome.report.recomputed_all);
  REQUIRE(outcome.report.reasons.size() == 1);
}

TEST_CASE("a slow link changes the time and nothing else") {
  Saved saved;
  const ManualClock clock;
  ThrottledStore<MemoryStore, ManualClock> slow(
      saved.store, {.bytes_per_s = 1'000'000, .latency = std::chrono::milliseconds(2), .burst = 0}, clock);
  const auto outcome = saved.restore_from(slow, {64, 32, 0, 0}, clock);
  CHECK(outcome.logits == saved.whole.logits);
  // Four layers, one request each, asked for together; the bytes of 7 * 4 - 6 chunks at 1 MB/s.
  CHECK(outcome.report.busy[Resource::link] ==
        doctest::Approx(0.002 + static_cast<double>(outcome.report.bytes) / 1e6).epsilon(1e-6));
}

TEST_CASE("rows of a lossy codec stay within its error") {
  Saved saved{Int8Codec{}};
  const auto outcome = saved.restore_from_store({32, 16, 0, 0});
  const auto& geometry = saved.model.geometry();
  for (std::size_t layer = 0; layer < 4; ++layer) {
    std::vector<float> was(history * geometry.kv_values()), now(was.size());
    to_float(geometry.cache_type, saved.whole.cache.view(layer).keys.first(history * geometry.kv_row_bytes()), was);
    to_float(geometry.cache_type, outcome.cache.view(layer).keys.first(history * geometry.kv_row_bytes()), now);
    for (std::size_t head = 0; head < was.size(); head += geometry.head_dim) {
      float largest = 0;
      for (std::size_t d = 0; d < geometry.head_dim; ++d) largest = std::max(largest, std::abs(was[head + d]));
      if (head / geometry.kv_values() < outcome.report.plan.prefix[layer]) continue;
      for (std::size_t d = 0; d < geometry.head_dim; ++d)
        REQUIRE(std::abs(was[head + d] - now[head + d]) <= Int8Codec{}.relative_error(geometry.cache_type) * largest);
    }
  }
}

TEST_CASE("jobs whose parts do not fit together are refused") {
  Saved saved;
  std::vector<float> logits(saved.model.geometry().vocabulary);
  auto cache = saved.model.make_cache(256);
  const auto run = [&](RestorePlan plan, std::span<const Token> tokens, std::span<float> out,
                       toy::Backend::Cache& into) {
    const RestoreJob<toy::Backend, MemoryStore> job{.model = saved.model,
                                                    .store = saved.store,
                                                    .cache = into,
                                                    .workers = saved.workers,
                                                    .manifest = saved.manifest,
                                                    .folder = saved.folder,
                                                    .plan = std::move(plan),
                                                    .tokens = tokens,
                                                    .logits = out};
    return restore(job).has_value();
  };
  const RestorePlan good{history, 5, block, {0, 0, 0, 0}};
  CHECK_THROWS_AS(run({history, 5, block, {0, 0, 0}}, saved.tokens, logits, cache), PreconditionError);
  CHECK_THROWS_AS(run({history, 5, 2 * block, {0, 0, 0, 0}}, saved.tokens, logits, cache), PreconditionError);
  CHECK_THROWS_AS(run({history + 1, 4, block, {0, 0, 0, 0}}, saved.tokens, logits, cache), PreconditionError);
  CHECK_THROWS_AS(run(good, std::span(saved.tokens).first(50), logits, cache), PreconditionError);
  CHECK_THROWS_AS(run(good, saved.tokens, std::span(logits).first(10), cache), PreconditionError);
  auto small = saved.model.make_cache(50);
  CHECK_THROWS_AS(run(good, saved.tokens, logits, small), PreconditionError);
  REQUIRE(run(good, saved.tokens, logits, cache));
  CHECK_THROWS_AS(run(good, saved.tokens, logits, cache), PreconditionError);  // no longer empty
}

}  // namespace
}  // namespace krul
