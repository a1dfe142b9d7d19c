#include <doctest/doctest.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "krul/conversation/saved_conversations.hpp"
#include "krul/conversation/verify.hpp"
#include "redis_server.hpp"
#include "support/toy_talk.hpp"

namespace krul {
namespace {

using test::RedisServer;
using test::ToyTalk;

struct RedisTalk {
  RedisServer server;
  RedisStore store;
  ToyTalk talk;

  RedisTalk() : store(RedisStore::open(options()).value()), talk(store) {}
  /// Values so small that each object lies in several.
  [[nodiscard]] RedisStoreOptions options() const {
    RedisStoreOptions small = server.options();
    small.largest_value = 1024;
    return small;
  }
};

TEST_CASE("a conversation on a Redis server goes on where it was, for others too") {
  KRUL_NEEDS_REDIS();
  RedisTalk f;
  for (const std::size_t count : {60, 100, 140}) REQUIRE(f.talk.turn(count));
  CHECK(f.talk.is_clean());
  auto elsewhere = RedisStore::open(f.options()).value();
  ToyTalk other(elsewhere);
  auto opened = other.open();
  const auto report = opened.advance(std::span(other.tokens).first(160), other.logits);
  REQUIRE(report);
  CHECK(report->matched == 140);
  CHECK(report->loaded_rows == 4 * 140);
  CHECK(other.is_right(160));
}

TEST_CASE("a conversation that somebody has open is busy on every machine") {
  KRUL_NEEDS_REDIS();
  RedisTalk f;
  REQUIRE(f.talk.turn(60));
  const auto open = f.talk.open();
  auto elsewhere = RedisStore::open(f.options()).value();
  ToyTalk other(elsewhere);
  const auto refused = other.turn(80);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == ErrorCode::busy);
}

TEST_CASE("what a server forgets in the middle of a conversation is recomputed") {
  KRUL_NEEDS_REDIS();
  RedisTalk f;
  REQUIRE(f.talk.turn(100));
  auto opened = f.talk.open();
  SUBCASE("all of it") {
    f.server.ask({"FLUSHALL"});
  }
  SUBCASE("some parts") {
    f.server.ask({"EVAL",
                  "for i, key in ipairs(redis.call('keys', '*part*')) do "
                  "if i % 2 == 0 then redis.call('del', key) end end",
                  "0"});
  }
  SUBCASE("the indices") {
    f.server.ask({"DEL", "krul:{" + f.talk.folder + "}:objects"});
  }
  const auto report = opened.advance(std::span(f.talk.tokens).first(120), f.talk.logits);
  REQUIRE_MESSAGE(report, report.error().message);
  CHECK(report->loaded_rows < 400);
  CHECK_FALSE(report->reasons.empty());
  CHECK(f.talk.is_right(120));
}

TEST_CASE("a server that dies between two turns costs what it held, and nothing else") {
  KRUL_NEEDS_REDIS();
  RedisTalk f;
  REQUIRE(f.talk.turn(100));
  {
    auto opened = f.talk.open();
    f.server.kill();
    const auto report = opened.advance(std::span(f.talk.tokens).first(120), f.talk.logits);
    REQUIRE_MESSAGE(report, report.error().message);
    CHECK(f.talk.is_right(120));
    const auto saved = opened.save();
    REQUIRE_FALSE(saved);
    CHECK(saved.error().code == ErrorCode::io);
    f.server.start();
  }
  REQUIRE(f.talk.turn(120));
  CHECK(f.talk.is_clean());
}

TEST_CASE("a conversation whose lock is lost is not saved over another one's") {
  KRUL_NEEDS_REDIS();
  RedisTalk f;
  REQUIRE(f.talk.turn(60));
  auto opened = f.talk.open();
  REQUIRE(opened.advance(std::span(f.talk.tokens).first(80), f.talk.logits));
  // An hour without a write, in which somebody else was quicker.
  f.server.ask({"EVAL", "redis.call('pexpire', KEYS[1], redis.call('pttl', KEYS[1]) - 3600000)", "1",
                "krul:{" + f.talk.folder + "}:lock"});
  auto elsewhere = RedisStore::open(f.options()).value();
  ToyTalk other(elsewhere);
  REQUIRE(other.turn(70));
  const auto saved = opened.save();
  REQUIRE_FALSE(saved);
  CHECK(saved.error().code == ErrorCode::busy);
  CHECK(other.open().saved_tokens().size() == 70);
  CHECK(other.is_clean());
}

TEST_CASE("conversations on a server are listed and erased") {
  KRUL_NEEDS_REDIS();
  RedisTalk f;
  REQUIRE(f.talk.turn(60));
  CHECK(f.store.list("") == std::vector<std::string>{f.talk.folder});
  REQUIRE(erase_conversation(f.store, f.talk.folder));
  CHECK(f.server.ask({"DBSIZE"}) == ":0\r\n");
}

}  // namespace
}  // namespace krul
