#include <doctest/doctest.h>

#include <chrono>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "redis_server.hpp"
#include "unit/store/store_test_support.hpp"

namespace krul {
namespace {

using test::folder_a;
using test::RedisServer;
using test::some_bytes;

const std::string lock_key = "krul:{" + folder_a + "}:lock";
const std::string object_key = folder_a + "/object";

struct LockFixture {
  RedisServer server;
  RedisStore mine = RedisStore::open(server.options()).value();
  RedisStore other = RedisStore::open(server.options()).value();
  std::vector<std::byte> before = some_bytes(40'000, 1), after = some_bytes(50'000, 2);

  LockFixture() { REQUIRE(mine.put(object_key, before)); }
  /// As if so much time had gone by.
  void pass(std::chrono::milliseconds time) {
    server.ask({"EVAL", "redis.call('pexpire', KEYS[1], redis.call('pttl', KEYS[1]) - ARGV[1])", "1", lock_key,
                std::to_string(time.count())});
  }
  void check_lost(RedisStore& store) {
    for (int i = 0; i < 2; ++i) {
      const Status put = store.put(object_key, after), erased = store.erase(object_key);
      REQUIRE_FALSE(put);
      CHECK(put.error().code == ErrorCode::busy);
      CHECK(put.error().message.find("lost") != std::string::npos);
      REQUIRE_FALSE(erased);
      CHECK(erased.error().code == ErrorCode::busy);
    }
    CHECK(other.load(object_key, 100'000) == before);
  }
};

TEST_CASE("a lock is busy for others, and says for how long") {
  KRUL_NEEDS_REDIS();
  LockFixture f;
  std::optional<Result<RedisStore::Lock>> lock = f.mine.lock(folder_a);
  REQUIRE(*lock);
  const auto refused = f.other.lock(folder_a);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == ErrorCode::busy);
  CHECK(refused.error().message.find(" s more") != std::string::npos);
  const auto twice = f.mine.lock(folder_a);
  REQUIRE_FALSE(twice);
  CHECK(twice.error().code == ErrorCode::busy);
  lock.reset();
  CHECK(f.server.ask({"EXISTS", lock_key}) == ":0\r\n");
  CHECK(f.other.lock(folder_a));
}

TEST_CASE("whoever lost a lock never overwrites") {
  KRUL_NEEDS_REDIS();
  LockFixture f;
  auto lock = f.mine.lock(folder_a);
  REQUIRE(lock);
  SUBCASE("the server forgot it") {
    f.server.ask({"DEL", lock_key});
    f.check_lost(f.mine);
  }
  SUBCASE("its time was over and somebody else took it") {
    f.pass(std::chrono::seconds(61));
    auto theirs = f.other.lock(folder_a);
    REQUIRE(theirs);
    f.check_lost(f.mine);
    REQUIRE(f.other.put(object_key, f.before));
    // That the lock is no longer held does not give back somebody else's.
    { const auto dead = std::move(lock); }
    CHECK(f.server.ask({"EXISTS", lock_key}) == ":1\r\n");
    CHECK(f.mine.lock(folder_a).error().code == ErrorCode::busy);
    REQUIRE(f.other.put(object_key, f.before));
  }
  SUBCASE("somebody else took it and gave it back") {
    f.pass(std::chrono::seconds(61));
    CHECK(f.other.lock(folder_a));
    f.check_lost(f.mine);
  }
  SUBCASE("and may lock again") {
    f.server.ask({"DEL", lock_key});
    f.check_lost(f.mine);
    const auto again = f.mine.lock(folder_a);
    REQUIRE(again);
    CHECK(f.mine.put(object_key, f.after));
    // The lock that is lost is not the one that is held.
    { const auto dead = std::move(lock); }
    CHECK(f.mine.put(object_key, f.after));
    CHECK(f.other.lock(folder_a).error().code == ErrorCode::busy);
  }
}

TEST_CASE("a lock whose time was over still holds if nobody took it, and every write renews it") {
  KRUL_NEEDS_REDIS();
  LockFixture f;
  const auto lock = f.mine.lock(folder_a);
  REQUIRE(lock);
  f.pass(std::chrono::hours(20));
  REQUIRE(f.mine.put(object_key, f.after));
  CHECK(f.other.lock(folder_a).error().code == ErrorCode::busy);
  f.pass(std::chrono::seconds(30));
  CHECK(f.other.lock(folder_a).error().code == ErrorCode::busy);
  REQUIRE(f.mine.erase(object_key));
  f.pass(std::chrono::seconds(30));
  CHECK(f.other.lock(folder_a).error().code == ErrorCode::busy);
}

TEST_CASE("a lease that ends while the server is held up fences the writer") {
  KRUL_NEEDS_REDIS();
  LockFixture f;
  RedisStoreOptions options = f.server.options();
  options.lock_time = std::chrono::milliseconds(50);
  auto hasty = RedisStore::open(options).value();
  const auto lock = hasty.lock(folder_a);
  REQUIRE(lock);
  f.server.ask({"DEBUG", "SLEEP", "0.1"});
  const auto theirs = f.other.lock(folder_a);
  REQUIRE(theirs);
  f.check_lost(hasty);
}

TEST_CASE("a store without a lock writes whatever others hold, as any store does") {
  KRUL_NEEDS_REDIS();
  LockFixture f;
  const auto lock = f.mine.lock(folder_a);
  REQUIRE(lock);
  CHECK(f.other.put(object_key, f.after));
  CHECK(f.mine.load(object_key, 100'000) == f.after);
  // Copies share their locks.
  RedisStore copy = f.mine;
  CHECK(copy.put(object_key, f.before));
  f.server.ask({"DEL", lock_key});
  CHECK(copy.put(object_key, f.before).error().code == ErrorCode::busy);
}

TEST_CASE("a lock outlives its store") {
  KRUL_NEEDS_REDIS();
  LockFixture f;
  std::optional<RedisStore> store = RedisStore::open(f.server.options()).value();
  {
    const auto lock = store->lock(folder_a);
    REQUIRE(lock);
    store.reset();
    CHECK(f.other.lock(folder_a).error().code == ErrorCode::busy);
  }
  CHECK(f.other.lock(folder_a));
}

TEST_CASE("of two writers of one folder one has it, and readers see whole objects") {
  KRUL_NEEDS_REDIS();
  LockFixture f;
  std::atomic<int> held = 0;
  std::atomic<bool> is_well = true;
  const auto write = [&](RedisStore& store, std::uint32_t seed) {
    for (int i = 0; i < 20; ++i) {
      const auto lock = store.lock(folder_a);
      if (!lock) {
        is_well = is_well && lock.error().code == ErrorCode::busy;
        continue;
      }
      ++held;
      is_well = is_well && store.put(object_key, some_bytes(40'000 + seed, seed));
    }
  };
  {
    const std::jthread first([&] { write(f.mine, 1); }), second([&] { write(f.other, 2); });
    auto reader = RedisStore::open(f.server.options()).value();
    for (int i = 0; i < 30; ++i) {
      const auto bytes = reader.load(object_key, 100'000);
      REQUIRE(bytes);
      const bool is_whole = *bytes == f.before || *bytes == some_bytes(40'001, 1) || *bytes == some_bytes(40'002, 2);
      CHECK(is_whole);
    }
  }
  CHECK(is_well);
  CHECK(held > 0);
}

}  // namespace
}  // namespace krul
