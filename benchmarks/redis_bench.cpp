// Reads and writes of a RedisStore on the server that KRUL_REDIS names, as in
//   redis-server --port 7777 --save '' &
//   KRUL_REDIS=redis://127.0.0.1:7777 build/release/benchmarks/krul_redis_bench
// beside redis-benchmark -p 7777 -t set,get -d BYTES -c CLIENTS. Counters: bytes/s, and objects/s.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "krul/redis/redis_store.hpp"

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

}  // namespace

BENCHMARK_MAIN();
