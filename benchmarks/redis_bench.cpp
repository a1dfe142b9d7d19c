// Reads and writes of a RedisStore on the server that KRUL_REDIS names, as in
//   redis-server --port 7777 --save '' &
//   KRUL_REDIS=redis://127.0.0.1:7777 build/release/benchmarks/krul_redis_bench
// beside redis-benchmark -p 7777 -t set,get -d BYTES -c CLIENTS. Counters: bytes/s, and objects (or conversations)/s.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "../examples/02_your_own_backend/toy_backend.hpp"
#include "krul/compress/int8_codec.hpp"
#include "krul/conversation/save.hpp"
#include "krul/conversation/saved_conversations.hpp"
#include "krul/redis/redis_store.hpp"
#include "krul/restore/link_lane.hpp"
#include "krul/restore/presence_check.hpp"
#include "krul/restore/read_requests.hpp"
#include "krul/store/manifest_store.hpp"

namespace {

using namespace krul;

constexpr std::size_t objects = 16;

std::string key(std::size_t object) {
  return std::string(30, 'b') + (object < 10 ? "0" : "") + std::to_string(object) + "/object";
}

/// One for all threads of a benchmark.
std::optional<RedisStore>& shared_store() {
  static std::optional<RedisStore> store = [] {
    const char* const url = std::getenv("KRUL_REDIS");
    auto options = parse_redis_url(url ? url : "redis://127.0.0.1:6379?prefix=krul-bench");
    if (!options) return std::optional<RedisStore>();
    options->connections = 16;
    auto opened = RedisStore::open(*options);
    return opened ? std::optional(std::move(*opened)) : std::optional<RedisStore>();
  }();
  return store;
}

/// @return none, and the benchmark is skipped, if no server can be reached
std::optional<RedisStore> filled_store(benchmark::State& state) {
  std::optional<RedisStore> store = shared_store();
  const std::vector<std::byte> bytes(static_cast<std::size_t>(state.range(0)), std::byte{7});
  for (std::size_t object = 0; store && state.thread_index() == 0 && object < objects; ++object)
    if (!store->put(key(object), bytes)) store.reset();
  if (!store) state.SkipWithError("no server: set KRUL_REDIS to its redis:// address");
  return store;
}

void count(benchmark::State& state, std::size_t objects_each) {
  const auto done = state.iterations() * static_cast<std::int64_t>(objects_each);
  state.SetItemsProcessed(done);
  state.SetBytesProcessed(done * state.range(0));
}

/// Each thread reads one object after the other.
void get(benchmark::State& state) {
  auto store = filled_store(state);
  std::vector<std::byte> to(static_cast<std::size_t>(state.range(0)));
  std::size_t object = static_cast<std::size_t>(state.thread_index());
  for (auto _ : state)
    if (!store || !store->get(key(object++ % objects), 0, to)) return state.SkipWithError("a read failed");
  count(state, 1);
}
BENCHMARK(get)->Arg(64 << 10)->Arg(1 << 20)->Arg(4 << 20)->Threads(1)->Threads(4)->Threads(16)->UseRealTime();

/// One thread asks for 16 objects at once.
void get_together(benchmark::State& state) {
  auto store = filled_store(state);
  std::vector<std::vector<std::byte>> to(objects, std::vector<std::byte>(static_cast<std::size_t>(state.range(0))));
  std::vector<RangedRead> reads;
  for (std::size_t object = 0; object < objects; ++object) reads.push_back({key(object), 0, to[object]});
  for (auto _ : state) {
    bool is_read = store.has_value();
    if (store) store->get_together(reads, {}, [&](std::size_t, const Status& how) { is_read = is_read && how; });
    if (!is_read) return state.SkipWithError("a read failed");
  }
  count(state, objects);
}
BENCHMARK(get_together)->Arg(64 << 10)->Arg(1 << 20)->Arg(4 << 20)->UseRealTime();

void put(benchmark::State& state) {
  auto store = filled_store(state);
  const std::vector<std::byte> bytes(static_cast<std::size_t>(state.range(0)), std::byte{7});
  const std::size_t object = static_cast<std::size_t>(state.thread_index());
  for (auto _ : state)
    if (!store || !store->put(key(object), bytes)) return state.SkipWithError("a write failed");
  count(state, 1);
}
BENCHMARK(put)->Arg(64 << 10)->Arg(1 << 20)->Arg(4 << 20)->Threads(1)->Threads(4)->Threads(16)->UseRealTime();

/// A conversation as long as the model of the README keeps it: 30 layers of 3 heads of 64 values, int8.
constexpr std::size_t saved_tokens = 1024;
const std::string saved_folder = conversation_folder("krul-redis-bench").value();

bool save_conversation(RedisStore& store) {
  const Geometry geometry{.layers = 30,
                          .query_heads = 3,
                          .kv_heads = 3,
                          .head_dim = 64,
                          .hidden = 192,
                          .vocabulary = 64,
                          .context = saved_tokens,
                          .cache_type = ElementType::f32,
                          .rotary = {.pairs = RotaryPairs::halves, .dimensions = 64, .base = 10000.0}};
  toy::Backend model(geometry);
  HostKvCache cache(geometry, saved_tokens);
  std::vector<float> rows(saved_tokens * geometry.kv_values());
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = std::sin(static_cast<float>(i));
  const auto bytes = std::as_bytes(std::span(rows));
  for (std::size_t layer = 0; layer < geometry.layers; ++layer)
    cache.write_kv(layer, {0, saved_tokens}, {.keys = bytes, .values = bytes});
  cache.commit(saved_tokens);
  return save_as(model, store, cache, std::vector<Token>(saved_tokens, 1),
                 {.id = "krul-redis-bench", .plan = SavePlan::separate(Int8Codec{})})
      .has_value();
}

/// Each thread reads the conversation as a restore does: the manifest, what is there of it, and all rows, each checked.
/// What a restore does besides, decoding and computing, is the model's.
void read_conversation(benchmark::State& state) {
  std::optional<RedisStore> store = shared_store();
  if (state.thread_index() == 0 && store && !save_conversation(*store)) store.reset();
  if (!store) state.SkipWithError("no server: set KRUL_REDIS to its redis:// address");
  std::uint64_t bytes = 0;
  for (auto _ : state) {
    const auto saved = load_manifest(*store, saved_folder);
    if (!saved) return state.SkipWithError("the manifest could not be read");
    const Manifest& manifest = saved->manifest;
    PresenceCheck presence(*store, manifest, saved_folder, saved_tokens, CodingSet());
    const RestorePlan plan{.history = saved_tokens,
                           .prompt = 1,
                           .block = manifest.block,
                           .prefix = std::vector<std::size_t>(manifest.layers, 0)};
    LinkLane<RedisStore, SteadyClock> link(*store, {}, manifest, saved_folder, read_requests(plan, manifest, {}));
    bool is_whole = !presence.hears_of_more();
    while (link.more()) {
      Arrival arrival = link.next();
      is_whole = is_whole && arrival.status && std::ranges::all_of(arrival.good, std::identity{});
      link.recycle(std::move(arrival.buffer));
    }
    link.stop();
    if (!is_whole) return state.SkipWithError("a read failed");
    bytes += link.bytes();
  }
  state.SetItemsProcessed(state.iterations());
  state.SetBytesProcessed(static_cast<std::int64_t>(bytes));
  if (state.thread_index() == 0) static_cast<void>(erase_saved(*store, "krul-redis-bench"));
}
BENCHMARK(read_conversation)->Threads(1)->Threads(4)->Threads(16)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
