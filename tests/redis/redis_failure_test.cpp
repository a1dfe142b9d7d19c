#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "redis_server.hpp"
#include "unit/store/store_test_support.hpp"

namespace krul {
namespace {

using std::chrono::milliseconds;
using test::folder_a;
using test::folder_b;
using test::RedisServer;
using test::some_bytes;

const std::string kept_key = folder_a + "/kept";

template <class T>
void check_code(const Result<T>& result, ErrorCode code, const std::string& word = "") {
  REQUIRE_FALSE(result);
  CHECK_MESSAGE(result.error().code == code, result.error().message);
  CHECK_MESSAGE(result.error().message.find(word) != std::string::npos, result.error().message);
}

TEST_CASE("a server that asks for a password") {
  KRUL_NEEDS_REDIS();
  const RedisServer server({}, "the right one");
  CHECK(RedisStore::open(server.options()));
  RedisStoreOptions options = server.options();
  options.password = "another one";
  check_code(RedisStore::open(options), ErrorCode::invalid_argument, "password");
  options.password = "";
  check_code(RedisStore::open(options), ErrorCode::invalid_argument, "password");
  // The rights that docs/stores.md names.
  server.ask({"ACL", "SETUSER", "krul", "on", ">secret", "~krul:*"});
  for (const char* command : {"getrange", "hget", "hkeys", "setex", "unlink", "scan", "eval", "asking", "cluster|slots",
                              "get", "set", "del", "exists", "persist", "pexpire", "pttl", "hset", "hdel", "hvals"})
    server.ask({"ACL", "SETUSER", "krul", std::string("+") + command});
  options.user = "krul";
  options.password = "secret";
  auto store = RedisStore::open(options);
  REQUIRE(store);
  {
    const auto lock = store->lock(folder_a);
    CHECK(lock);
    CHECK(store->put(kept_key, some_bytes(10, 1)));
    CHECK(store->put(kept_key, some_bytes(20, 1)));
  }
  options.expiry = std::chrono::hours(1);
  CHECK(RedisStore::open(options)->put(kept_key, some_bytes(20, 1)));
  CHECK(store->load(kept_key, 20) == some_bytes(20, 1));
  CHECK(store->list(folder_a)->size() == 1);
  CHECK(store->list("")->size() == 1);
  CHECK(store->erase(kept_key));
  options.user = "nobody";
  check_code(RedisStore::open(options), ErrorCode::invalid_argument, "password");
  options.user = "krul";
  options.prefix = "others";
  check_code(RedisStore::open(options)->put(kept_key, some_bytes(10, 1)), ErrorCode::invalid_argument, "rights");
}

TEST_CASE("a password where none is asked for is said to be too much") {
  KRUL_NEEDS_REDIS();
  const RedisServer server;
  RedisStoreOptions options = server.options();
  options.password = "needless";
  check_code(RedisStore::open(options), ErrorCode::invalid_argument, "password");
}

TEST_CASE("a server that dies and comes back") {
  KRUL_NEEDS_REDIS();
  RedisServer server;
  auto store = RedisStore::open(server.options()).value();
  const auto lock = store.lock(folder_b);
  REQUIRE(lock);
  REQUIRE(store.put(kept_key, some_bytes(100'000, 1)));
  std::vector<std::byte> to(100'000);
  REQUIRE(store.get(kept_key, 0, to));
  server.kill();
  const std::string address = "127.0.0.1:" + std::to_string(server.port());
  check_code(store.get(kept_key, 0, to), ErrorCode::io, address);
  check_code(store.put(kept_key, to), ErrorCode::io, address);
  check_code(store.size(kept_key), ErrorCode::io, address);
  check_code(store.erase(kept_key), ErrorCode::io, address);
  check_code(store.list(""), ErrorCode::io, address);
  check_code(store.list(folder_a), ErrorCode::io, address);
  check_code(store.lock(folder_a), ErrorCode::io, address);
  check_code(store.load(kept_key, 1 << 20), ErrorCode::io, address);
  // Empty, as it keeps nothing. Its clients need not be told.
  server.start();
  check_code(store.get(kept_key, 0, to), ErrorCode::not_found);
  REQUIRE(store.put(kept_key, some_bytes(100'000, 2)));
  CHECK(store.load(kept_key, 100'000) == some_bytes(100'000, 2));
  // It has forgotten the lock: who had it does not write.
  check_code(store.put(folder_b + "/object", to), ErrorCode::busy);
}

TEST_CASE("a server that restarts between two requests is not noticed") {
  KRUL_NEEDS_REDIS();
  RedisServer server;
  auto store = RedisStore::open(server.options()).value();
  REQUIRE(store.put(kept_key, some_bytes(10, 1)));
  server.kill();
  server.start();
  CHECK(store.put(kept_key, some_bytes(10, 2)));
  // Nor that it closed its clients' connections.
  server.ask({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"});
  CHECK(store.size(kept_key) == 10);
}

TEST_CASE("a server that is killed while it is asked") {
  KRUL_NEEDS_REDIS();
  RedisServer server;
  RedisStoreOptions options = server.options();
  options.largest_value = 1 << 20;
  auto store = RedisStore::open(options).value();
  const auto bytes = some_bytes(8 << 20, 1);
  REQUIRE(store.put(kept_key, bytes));
  std::vector<std::vector<std::byte>> to(8, std::vector<std::byte>(1 << 20));
  std::vector<RangedRead> reads;
  for (std::size_t i = 0; i < to.size(); ++i) reads.push_back({kept_key, i << 20, to[i]});
  std::size_t ended = 0;
  store.get_together(reads, {}, [&](std::size_t i, const Status& status) {
    if (++ended == 1) server.kill();
    if (status)
      CHECK(std::equal(to[i].begin(), to[i].end(), bytes.begin() + static_cast<std::ptrdiff_t>(i << 20)));
    else
      CHECK(status.error().code == ErrorCode::io);
  });
  CHECK(ended == reads.size());
}

TEST_CASE("a server that is silent is given up in time, and what it does later harms nothing") {
  KRUL_NEEDS_REDIS();
  RedisServer server;
  auto patient = RedisStore::open(server.options()).value();
  RedisStoreOptions options = server.options();
  options.request_timeout = milliseconds(300);
  auto hasty = RedisStore::open(options).value();
  const auto bytes = some_bytes(100'000, 1);
  REQUIRE(patient.put(kept_key, bytes));
  std::vector<std::byte> to(1000);
  const RangedRead read{kept_key, 0, to};
  const auto end_of = [&](const RequestLimits& limits) {
    Status how;
    patient.get_together(std::span(&read, 1), limits, [&](std::size_t, const Status& status) { how = status; });
    return how;
  };
  server.stop();
  check_code(hasty.get(kept_key, 0, to), ErrorCode::deadline, "silent");
  check_code(hasty.put(kept_key, to), ErrorCode::deadline, "silent");
  check_code(RedisStore::open(options), ErrorCode::deadline);
  check_code(end_of({.deadline = SteadyClock{}.now() + milliseconds(60)}), ErrorCode::deadline);
  std::stop_source stop;
  {
    const std::jthread stopping([&] {
      std::this_thread::sleep_for(milliseconds(30));
      stop.request_stop();
    });
    check_code(end_of({.stop = stop.get_token()}), ErrorCode::cancelled);
  }
  server.go_on();
  // The connections that were in the middle of something are gone: no reply is taken for another one's.
  REQUIRE(patient.get(kept_key, 5000, to));
  CHECK(std::equal(to.begin(), to.end(), bytes.begin() + 5000));
  Status again = hasty.get(kept_key, 6000, to);
  for (int i = 0; !again && i < 20; ++i) again = hasty.get(kept_key, 6000, to);
  REQUIRE(again);
  CHECK(std::equal(to.begin(), to.end(), bytes.begin() + 6000));
}

TEST_CASE("more threads than connections wait for each other") {
  KRUL_NEEDS_REDIS();
  RedisServer server;
  RedisStoreOptions options = server.options();
  options.connections = 2;
  auto store = RedisStore::open(options).value();
  const auto bytes = some_bytes(100'000, 1);
  REQUIRE(store.put(kept_key, bytes));
  std::atomic<int> right = 0;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 8; ++i)
      threads.emplace_back([&] {
        for (int round = 0; round < 10; ++round)
          if (store.load(kept_key, 100'000) == bytes) ++right;
      });
  }
  CHECK(right == 80);
  CHECK(server.ask({"INFO", "clients"}).find("connected_clients:3") != std::string::npos);  // with the one that asks
  SUBCASE("but not for ever") {
    options.connections = 1;
    options.request_timeout = milliseconds(500);
    auto narrow = RedisStore::open(options).value();
    server.stop();
    std::atomic<int> late = 0;
    {
      std::vector<std::jthread> threads;
      for (int i = 0; i < 2; ++i)
        threads.emplace_back([&] {
          const auto size = narrow.size(kept_key);
          if (!size && size.error().code == ErrorCode::deadline) ++late;
        });
    }
    CHECK(late == 2);
    server.go_on();
  }
}

TEST_CASE("a server without memory keeps the old object") {
  KRUL_NEEDS_REDIS();
  RedisServer server({"--maxmemory", "8mb", "--maxmemory-policy", "noeviction"});
  auto store = RedisStore::open(server.options()).value();
  auto lock = std::make_optional(store.lock(folder_a).value());
  const auto before = some_bytes(100'000, 1);
  REQUIRE(store.put(kept_key, before));
  check_code(store.put(kept_key, some_bytes(16 << 20, 2)), ErrorCode::no_space, "maxmemory");
  CHECK(store.load(kept_key, 1 << 20) == before);
  CHECK(store.list(folder_a) == std::vector<std::string>{"kept"});
  // What was written of it is gone, so that a smaller one fits.
  REQUIRE(store.put(kept_key, some_bytes(200'000, 3)));
  // Where nothing fits any more, what is there can still be erased.
  server.ask({"CONFIG", "SET", "maxmemory", "1"});
  check_code(store.put(kept_key, before), ErrorCode::no_space);
  lock.reset();
  auto other = RedisStore::open(server.options()).value();
  const auto taken = other.lock(folder_a);
  REQUIRE(taken);
  check_code(store.lock(folder_a), ErrorCode::busy);
  REQUIRE(other.erase(kept_key));
  check_code(store.size(kept_key), ErrorCode::not_found);
}

TEST_CASE("a server that evicts loses objects, and says so of each") {
  KRUL_NEEDS_REDIS();
  RedisServer server({"--maxmemory", "8mb", "--maxmemory-policy", "allkeys-lru"});
  auto store = RedisStore::open(server.options()).value();
  const auto bytes = some_bytes(1 << 20, 1);
  std::size_t written = 0;
  for (int i = 0; i < 20; ++i) {
    const Status put = store.put(folder_a + "/object-" + std::to_string(i), bytes);
    if (put) ++written;
    if (!put) CHECK_MESSAGE(put.error().code == ErrorCode::no_space, put.error().message);
  }
  CHECK(written > 0);
  std::size_t missed = 0;
  for (int i = 0; i < 20; ++i) {
    const auto object = store.load(folder_a + "/object-" + std::to_string(i), 1 << 20);
    if (object)
      CHECK(*object == bytes);
    else
      CHECK_MESSAGE(object.error().code == ErrorCode::not_found, object.error().message);
    if (!object) ++missed;
  }
  CHECK(missed > 0);
}

TEST_CASE("other things that servers refuse have their own sentence") {
  KRUL_NEEDS_REDIS();
  RedisServer server({"--min-replicas-to-write", "1"});
  auto store = RedisStore::open(server.options()).value();
  check_code(store.put(kept_key, some_bytes(10, 1)), ErrorCode::io, "replicas");
  server.ask({"CONFIG", "SET", "min-replicas-to-write", "0"});
  REQUIRE(store.put(kept_key, some_bytes(10, 1)));
  server.ask({"REPLICAOF", "127.0.0.1", "1"});
  check_code(store.put(kept_key, some_bytes(10, 2)), ErrorCode::io, "replica");
  CHECK(store.size(kept_key) == 10);
  server.ask({"REPLICAOF", "NO", "ONE"});
  CHECK(store.put(kept_key, some_bytes(20, 2)));
}

TEST_CASE("an object beyond the largest is refused before anything is sent") {
  KRUL_NEEDS_REDIS();
  RedisServer server;
  RedisStoreOptions options = server.options();
  options.largest_value = 1024;
  auto store = RedisStore::open(options).value();
  check_code(store.put(kept_key, std::vector<std::byte>((64 << 20) + 1)), ErrorCode::too_large, "largest_value");
  CHECK(server.ask({"DBSIZE"}) == ":0\r\n");
}

}  // namespace
}  // namespace krul
