#include <doctest/doctest.h>

#include <array>
#include <string>
#include <vector>

#include "krul/store/bounded_store.hpp"
#include "krul/store/encrypted_store.hpp"
#include "krul/store/tiered_store.hpp"
#include "support/toy_talk.hpp"

namespace krul {
namespace {

std::string first_segment(Manifest manifest, const std::string& folder) {
  return object_key(folder, manifest.objects.front());
}

TEST_CASE("a near copy that was damaged unnoticed is recomputed once, and mended by the next save") {
  MemoryStore near, far;
  TieredStore store(near, far);
  test::ToyTalk talk(store);
  REQUIRE(talk.turn(100));
  test::flip_byte(near, first_segment(talk.manifest(), talk.folder), 100);
  REQUIRE(talk.turn(120));
  CHECK(talk.is_right(120));
  CHECK_FALSE(talk.last.reasons.empty());
  REQUIRE(talk.turn(140));
  CHECK(talk.is_right(140));
  CHECK(talk.last.reasons.empty());
}

TEST_CASE("a conversation goes on without its near copies, and comes back near") {
  MemoryStore near, far;
  TieredStore store(near, far);
  test::ToyTalk talk(store);
  REQUIRE(talk.turn(100));
  TieredStore other(MemoryStore(), far);
  test::ToyTalk elsewhere(other);
  REQUIRE(elsewhere.turn(120));
  CHECK(elsewhere.is_right(120));
  CHECK(elsewhere.last.reasons.empty());
  // The first process sees what the other one saved.
  REQUIRE(talk.turn(140));
  CHECK(talk.is_right(140));
  CHECK(talk.last.matched == 120);
  CHECK(talk.is_clean());
}

TEST_CASE("a conversation that is written back is all far once its lock is gone") {
  MemoryStore near, far;
  TieredStore store(near, far, {.writes = WriteMode::back});
  test::ToyTalk talk(store);
  REQUIRE(talk.turn(100));
  CHECK(store.waiting().empty());
  test::ToyTalk elsewhere(far);
  CHECK(elsewhere.is_clean());
  REQUIRE(elsewhere.turn(120));
  CHECK(elsewhere.last.matched == 100);
  CHECK(elsewhere.last.reasons.empty());
}

TEST_CASE("with encryption next to each store a damaged near copy is read far, and nothing is recomputed") {
  std::array<std::byte, EncryptionKey::size> secret{};
  const EncryptionKey key(secret);
  MemoryStore behind_near, behind_far;
  const auto near = EncryptedStore<MemoryStore>::make(behind_near, {key});
  if (!near) {
    MESSAGE("skipped: " << near.error().message);
    return;
  }
  TieredStore store(*near, EncryptedStore<MemoryStore>::make(behind_far, {key}).value());
  test::ToyTalk talk(store);
  REQUIRE(talk.turn(100));
  test::flip_byte(behind_near, first_segment(talk.manifest(), talk.folder), 100);
  REQUIRE(talk.turn(120));
  CHECK(talk.is_right(120));
  CHECK(talk.last.reasons.empty());
}

TEST_CASE("conversations come and go under a bound, and one that was evicted starts anew") {
  MemoryStore memory;
  std::uint64_t one = 0;
  {
    test::ToyTalk talk(memory);
    REQUIRE(talk.turn(100));
    one = memory.used();
    REQUIRE(erase_conversation(memory, talk.folder));
  }
  const ManualClock clock;
  auto store = BoundedStore<MemoryStore, LeastRecentlyUsed, ManualClock>::open(memory, {.bytes = 5 * one}, {}, clock);
  REQUIRE(store);
  test::ToyTalk talk(*store);
  talk.options.strategy = talk.turns_by;
  const auto save = [&](const std::string& id) {
    clock.advance(std::chrono::hours(1));
    auto opened = decltype(talk)::Talk::open(talk.model, talk.store, id, talk.options);
    REQUIRE(opened);
    talk.last = opened->advance(std::span(talk.tokens).first(100), talk.logits).value();
    REQUIRE(opened->save());
    CHECK(talk.is_right(100));
  };
  for (int i = 0; i < 12; ++i) {
    save("talk " + std::to_string(i));
    CHECK(talk.last.matched == 0);
    CHECK(store->used() == memory.used());
    CHECK(memory.used() <= 5 * one);
  }
  CHECK(store->evicted() >= 7);
  save("talk 11");
  CHECK(talk.last.matched == 99);  // the last one is computed in any case, for its logits
  save("talk 0");
  CHECK(talk.last.matched == 0);
}

}  // namespace
}  // namespace krul
