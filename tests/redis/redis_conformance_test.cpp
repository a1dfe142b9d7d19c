#include <doctest/doctest.h>

#include <chrono>
#include <filesystem>
#include <string>

#include "krul/store/any_store.hpp"
#include "krul/store/conformance.hpp"
#include "redis_server.hpp"
#include "unit/store/store_test_support.hpp"

namespace krul {
namespace {

using test::folder_a;
using test::RedisServer;
using test::some_bytes;

/// Each fresh store has a prefix of its own.
struct RedisMaker {
  RedisStoreOptions options;
  int made = 0;
  RedisStore fresh() {
    options.prefix = "fresh-" + std::to_string(++made);
    return RedisStore::open(options).value();
  }
  RedisStore again() { return RedisStore::open(options).value(); }
};

TEST_CASE("a Redis store is a store, whatever its values' size") {
  KRUL_NEEDS_REDIS();
  const RedisServer server;
  for (const std::size_t largest : {std::size_t{4} << 20, std::size_t{10'000}}) {
    RedisMaker make{server.options()};
    make.options.largest_value = largest;
    const ConformanceReport report = check_store(make);
    INFO(report);
    CHECK(report.passed());
  }
}

TEST_CASE("what a Redis store says of itself") {
  KRUL_NEEDS_REDIS();
  const RedisServer server;
  const auto store = RedisStore::open(server.options()).value();
  const StoreCapabilities said = store.capabilities();
  CHECK(said.shared);
  CHECK(said.distant);
  CHECK_FALSE(said.durable);
  CHECK(said.largest == 65536 * server.options().largest_value);
}

TEST_CASE("an object of many parts leaves none behind when it is replaced, erased or refused") {
  KRUL_NEEDS_REDIS();
  const RedisServer server;
  auto store = RedisStore::open(server.options()).value();
  const std::string key = folder_a + "/large";
  for (const std::size_t size : {1'000'003, 16 << 10, 0, 40'000}) {
    const auto bytes = some_bytes(size, 1);
    REQUIRE(store.put(key, bytes));
    CHECK(store.load(key, size) == bytes);
    // The parts, and the index.
    CHECK(server.ask({"DBSIZE"}) == ":" + std::to_string((size + (16 << 10) - 1) / (16 << 10) + 1) + "\r\n");
  }
  CHECK(server.ask({"TTL", "krul:{" + folder_a + "}:objects"}) == ":-1\r\n");
  REQUIRE(store.erase(key));
  CHECK(server.ask({"DBSIZE"}) == ":0\r\n");
}

TEST_CASE("a part that is gone is missed only by those who want it") {
  KRUL_NEEDS_REDIS();
  const RedisServer server;
  auto store = RedisStore::open(server.options()).value();
  const std::string key = folder_a + "/large";
  const auto bytes = some_bytes(100'000, 1);
  REQUIRE(store.put(key, bytes));
  const std::string names = server.ask({"KEYS", "krul:*:part:*:2"});
  const std::string part = names.substr(names.find("krul"), names.rfind("\r\n") - names.find("krul"));
  std::vector<std::byte> to(1000);
  SUBCASE("evicted") {
    CHECK(server.ask({"DEL", part}) == ":1\r\n");
    const Status missed = store.get(key, 40'000, to);
    REQUIRE_FALSE(missed);
    CHECK(missed.error().code == ErrorCode::not_found);
    CHECK(store.load(key, 100'000).error().code == ErrorCode::not_found);
    REQUIRE(store.get(key, 20'000, to));
    CHECK(std::equal(to.begin(), to.end(), bytes.begin() + 20'000));
    // The next put of the object makes it whole.
    REQUIRE(store.put(key, bytes));
    CHECK(store.load(key, 100'000) == bytes);
  }
  SUBCASE("cut off") {
    CHECK(server.ask({"SET", part, "12345678901"}) == "+OK\r\n");
    CHECK(store.get(key, 32'768, to).error().code == ErrorCode::truncated);
  }
  SUBCASE("of another kind") {
    server.ask({"DEL", part});
    server.ask({"LPUSH", part, "element"});
    const Status refused = store.get(key, 32'768, to);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == ErrorCode::io);
    CHECK(refused.error().message.find(" under " + part + ": ") != std::string::npos);
  }
}

TEST_CASE("an index that is not krul's is not believed") {
  KRUL_NEEDS_REDIS();
  const RedisServer server;
  auto store = RedisStore::open(server.options()).value();
  const std::string index = "krul:{" + folder_a + "}:objects", name(32, 'f');
  for (const std::string& entry :
       {std::string("9"), std::string("1 2"), "99 1 " + name, "5 1023 " + name, "1000000000000 1024 " + name,
        "18446744073709551616 4096 " + name, "-1 4096 " + name, "5 4096 " + name + "0",
        "5 4096 " + std::string(32, 'G'), " 5 4096 " + name, "5 4096  " + name}) {
    server.ask({"HSET", index, "object", entry});
    CHECK_MESSAGE(store.size(folder_a + "/object").error().code == ErrorCode::corrupt, entry);
  }
  server.ask({"HSET", index, "NO NAME", "1 1024 " + name});
  CHECK(store.list(folder_a) == std::vector<std::string>{"object"});
}

TEST_CASE("what somebody else keeps under krul's keys is no damage, and is named") {
  KRUL_NEEDS_REDIS();
  const RedisServer server;
  auto store = RedisStore::open(server.options()).value();
  const auto is_named = [&](const std::string& key, const auto& refused) {
    const Error error = refused.error();
    return error.code == ErrorCode::io && error.message.find(" under " + key + ": ") != std::string::npos;
  };
  const std::string start = "krul:{" + folder_a + "}:", both = start + "objects or " + start + "lock";
  server.ask({"SET", start + "objects", "a string"});
  CHECK(is_named(start + "objects", store.size(folder_a + "/object")));
  CHECK(is_named(both, store.put(folder_a + "/object", some_bytes(10, 1))));
  CHECK(is_named(start + "objects", store.list(folder_a)));
  server.ask({"DEL", start + "objects"});
  server.ask({"HSET", start + "lock", "a", "hash"});
  CHECK(is_named(start + "lock", store.lock(folder_a)));
  server.ask({"DEL", start + "lock"});
}

TEST_CASE("what an index claims that is not krul's does not keep the server busy") {
  KRUL_NEEDS_REDIS();
  const RedisServer server;
  RedisStoreOptions options = server.options();
  options.request_timeout = std::chrono::seconds(20);
  const std::string index = "krul:{" + folder_a + "}:objects", name(32, 'f');
  for (const int expiry_s : {0, 100}) {
    if (expiry_s > 0) options.expiry = std::chrono::seconds(expiry_s);
    auto store = RedisStore::open(options).value();
    for (const std::string& entry : {"99999999999999 4194304 " + name, "5 0 " + name, "99999999999999 1 " + name,
                                     std::string(400, '9') + " " + std::string(400, '9') + " " + name}) {
      server.ask({"HSET", index, "object", entry, "other", entry});
      REQUIRE(store.put(folder_a + "/object", some_bytes(10, 1)));
      CHECK(store.load(folder_a + "/object", 10) == some_bytes(10, 1));
      REQUIRE(store.erase(folder_a + "/other"));
      CHECK(store.list(folder_a) == std::vector<std::string>{"object"});
    }
    // Each of these is possible, and all together are not.
    std::vector<std::string> many{"HSET", index};
    for (int i = 0; i < 100; ++i) {
      many.push_back("object-" + std::to_string(i));
      many.push_back("274877906944 4194304 " + name);
    }
    server.ask(many);
    REQUIRE(store.put(folder_a + "/object", some_bytes(10, 1)));
    CHECK(store.load(folder_a + "/object", 10) == some_bytes(10, 1));
    server.ask({"DEL", index});
  }
}

TEST_CASE("with an expiry, all of a folder lives as long as its last put wants") {
  KRUL_NEEDS_REDIS();
  const RedisServer server;
  RedisStoreOptions options = server.options();
  options.expiry = std::chrono::seconds(1000);
  auto store = RedisStore::open(options).value();
  REQUIRE(store.put(folder_a + "/first", some_bytes(40'000, 1)));
  options.expiry = std::chrono::seconds(5000);
  auto longer = RedisStore::open(options).value();
  REQUIRE(longer.put(folder_a + "/second", some_bytes(10, 1)));
  const auto each_lives = [&](const std::string& least) {
    return server.ask({"EVAL",
                       "for _, key in ipairs(redis.call('keys', '*')) do "
                       "if redis.call('ttl', key) < tonumber(ARGV[1]) then return key end end return 'yes'",
                       "0", least});
  };
  CHECK(each_lives("4900") == "$3\r\nyes\r\n");
  CHECK(server.ask({"DBSIZE"}) == ":5\r\n");
  // Without one, what is put stays, and so does the index that names it.
  auto forever = RedisStore::open(server.options()).value();
  REQUIRE(forever.put(folder_a + "/third", some_bytes(10, 1)));
  CHECK(server.ask({"TTL", "krul:{" + folder_a + "}:objects"}) == ":-1\r\n");
}

TEST_CASE("parts that were never published do not stay") {
  KRUL_NEEDS_REDIS();
  const RedisServer server;
  auto store = RedisStore::open(server.options()).value();
  auto lock = store.lock(folder_a);
  REQUIRE(lock);
  server.ask({"DEL", "krul:{" + folder_a + "}:lock"});
  CHECK(store.put(folder_a + "/object", some_bytes(100'000, 1)).error().code == ErrorCode::busy);
  CHECK(server.ask({"DBSIZE"}) == ":0\r\n");
}

TEST_CASE("stores with other prefixes or databases do not see each other") {
  KRUL_NEEDS_REDIS();
  const RedisServer server;
  RedisStoreOptions options = server.options();
  auto first = RedisStore::open(options).value();
  options.database = 3;
  auto other = RedisStore::open(options).value();
  options.prefix = "k";
  auto third = RedisStore::open(options).value();
  REQUIRE(first.put(folder_a + "/first", {}));
  REQUIRE(other.put(folder_a + "/other", some_bytes(10, 1)));
  CHECK(first.list(folder_a) == std::vector<std::string>{"first"});
  CHECK(other.list(folder_a) == std::vector<std::string>{"other"});
  CHECK(third.list("")->empty());
  options.database = 99;
  CHECK(RedisStore::open(options).error().code == ErrorCode::invalid_argument);
}

}  // namespace
}  // namespace krul
