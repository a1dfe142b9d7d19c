#include "krul/conversation/verify.hpp"

#include <doctest/doctest.h>

#include <functional>
#include <utility>

#include "krul/store/faulty_store.hpp"
#include "support/toy_talk.hpp"

namespace krul {
namespace {

using test::ToyTalk;

/// A memory store in which something else happens just before an object is read.
struct BusyStore : MemoryStore {
  std::function<void(const std::string&)> before_get;
  Status get(const std::string& key, std::uint64_t offset, std::span<std::byte> to) {
    if (auto now = std::exchange(before_get, {})) now(key);
    return MemoryStore::get(key, offset, to);
  }
};

/// Calls `act` when the first segment is about to be read.
void at_first_segment(BusyStore& store, std::function<void()> act) {
  store.before_get = [&store, act = std::move(act)](const std::string& key) {
    if (key.find("/segment-") != std::string::npos) return act();
    at_first_segment(store, act);
  };
}

TEST_CASE("beside a save or an erase nothing is taken for damage that is none") {
  BusyStore store;
  ToyTalk talk(store);
  REQUIRE(talk.turn(30));
  SUBCASE("a save that replaces an object") {
    at_first_segment(store, [&] {
      REQUIRE(talk.turn(5));  // everything is written anew
    });
    const auto report = verify_conversation(store, talk.folder);
    REQUIRE(report);
    CHECK(report->problems.empty());
    CHECK(report->chunks == 4);
  }
  SUBCASE("an erase") {
    at_first_segment(store, [&] { REQUIRE(erase_conversation(store, talk.folder)); });
    CHECK(verify_conversation(store, talk.folder).error().code == ErrorCode::not_found);
  }
  SUBCASE("an erase, and a conversation of the same name that is begun behind it") {
    at_first_segment(store, [&] {
      REQUIRE(erase_conversation(store, talk.folder));
      talk.tokens = test::toy_tokens(200, 5);
      REQUIRE(talk.turn(40));
    });
    CHECK(verify_conversation(store, talk.folder)->problems.empty());
  }
  SUBCASE("an erase at work, seen between its manifest and its objects") {
    const auto lock = store.lock(talk.folder);
    REQUIRE(store.erase(talk.folder + "/manifest-a"));
    REQUIRE(store.erase(talk.folder + "/manifest-b"));
    CHECK(verify_conversation(store, talk.folder).error().code == ErrorCode::not_found);
  }
  SUBCASE("saves that never end: busy, not damaged") {
    std::size_t count = 5;
    std::function<void()> again = [&] {
      REQUIRE(talk.turn(count++ % 2 == 0 ? 5 : 40));
      at_first_segment(store, again);
    };
    at_first_segment(store, again);
    CHECK(verify_conversation(store, talk.folder).error().code == ErrorCode::busy);
    store.before_get = {};
  }
}

TEST_CASE("leftovers are seen, whether or not a manifest is there, and gone after the next open or erase") {
  MemoryStore store;
  ToyTalk talk(store);
  REQUIRE(talk.turn(30));
  REQUIRE(store.put(talk.folder + "/segment-9-00000000", test::toy_bytes(10)));
  auto report = verify_conversation(store, talk.folder).value();
  CHECK(report.problems.empty());
  CHECK(report.leftovers == std::vector<std::string>{"segment-9-00000000"});
  SUBCASE("the next open") {
    (void)talk.open();
  }
  SUBCASE("the next open after an erase that was cut off") {
    for (const auto* manifest : {"/manifest-a", "/manifest-b"}) REQUIRE(store.erase(talk.folder + manifest));
    report = verify_conversation(store, talk.folder).value();
    CHECK(report.conversation.empty());
    CHECK(report.leftovers.size() == 2);
    (void)talk.open();
    CHECK(store.list("").value().empty());
    CHECK(verify_conversation(store, talk.folder).error().code == ErrorCode::not_found);
    return;
  }
  SUBCASE("the next open after a save that was cut off between the copies") {
    const Manifest old = talk.manifest();
    REQUIRE(talk.turn(50));
    REQUIRE(store.put(talk.folder + "/manifest-b", serialize(old)));
    REQUIRE(store.put(talk.folder + "/segment-9-00000000", test::toy_bytes(10)));
    (void)talk.open();
    CHECK(load_manifest(store, talk.folder)->repaired.empty());
    CHECK(talk.manifest().rows == 50);
  }
  CHECK(talk.is_clean());
  REQUIRE(talk.turn(60));
  CHECK(talk.is_right(60));
}

TEST_CASE("what cannot be read is named once, and is no damage") {
  MemoryStore memory;
  FaultyStore store(memory);
  ToyTalk talk(store);
  REQUIRE(talk.turn(30));
  Fault fault{.keys = "*/segment-*"};
  SUBCASE("a right that lacks, a limit") {}
  SUBCASE("a store that does not answer in time") {
    fault.code = ErrorCode::deadline;
  }
  SUBCASE("a copy of the manifest") {
    fault.keys = "*/manifest-a";
  }
  store.set_faults({fault});
  const auto report = verify_conversation(store, talk.folder).value();
  CHECK(report.conversation == "a talk");
  CHECK(report.problems.empty());
  CHECK(report.damaged_chunks.empty());
  REQUIRE(report.unread.size() == 1);
  CHECK(report.unread.front().find("a fault that was asked for") != std::string::npos);

  store.set_faults({{.code = ErrorCode::io}});
  CHECK(verify_conversation(store, talk.folder).error().code == ErrorCode::io);
  store.set_faults({});
  CHECK(talk.is_clean());
}

TEST_CASE("an erase that comes to its end beside a verification has left nothing behind") {
  /// Whoever was erasing ends just before the lock is taken.
  struct EndsMeanwhile : MemoryStore {
    Result<Lock> lock(const std::string& folder) {
      for (const std::string& name : std::exchange(left, {})) REQUIRE(erase(folder + "/" + name));
      return MemoryStore::lock(folder);
    }
    std::vector<std::string> left;
  };
  EndsMeanwhile store;
  const ToyTalk talk(store);
  const auto bytes = test::toy_bytes(10);
  const std::string segment = segment_name(1, bytes);
  REQUIRE(store.put(talk.folder + "/" + segment, bytes));
  CHECK(verify_conversation(store, talk.folder)->leftovers == std::vector{segment});
  store.left = {segment};
  CHECK(verify_conversation(store, talk.folder).error().code == ErrorCode::not_found);
}

TEST_CASE("a folder that cannot be listed is told, although nothing seems to be saved in it") {
  FaultyStore store(MemoryStore(), {{.operation = Fault::Operation::list}});
  const auto unread = verify_conversation(store, test::ToyTalk(store).folder)->unread;
  REQUIRE(unread.size() == 1);
  CHECK(unread.front().starts_with("listing folder"));
}

TEST_CASE("what others put into a folder is no leftover, and stays") {
  MemoryStore store;
  ToyTalk talk(store);
  REQUIRE(talk.turn(30));
  for (const char* name : {"/sub", "/notes.txt", "/segment-notes"})
    REQUIRE(store.put(talk.folder + name, test::toy_bytes(3)));
  CHECK(talk.is_clean());
  REQUIRE(talk.turn(40));
  CHECK(store.list(talk.folder)->size() == talk.manifest().objects.size() + 2 + 3);
  REQUIRE(erase_conversation(store, talk.folder));
  CHECK(verify_conversation(store, talk.folder).error().code == ErrorCode::not_found);
  (void)talk.open();
  CHECK(store.list(talk.folder)->size() == 3);
}

TEST_CASE("an open that cannot sweep is an open") {
  FaultyStore store(MemoryStore(), {{.operation = Fault::Operation::erase}});
  ToyTalk talk(store);
  REQUIRE(talk.turn(30));
  REQUIRE(store.put(talk.folder + "/segment-9-00000000", test::toy_bytes(10)));
  REQUIRE(talk.turn(40));
  CHECK(talk.is_right(40));
}

TEST_CASE("a chunk that is larger than its object is damage, and takes no memory") {
  MemoryStore store;
  ToyTalk talk(store);
  REQUIRE(talk.turn(30));
  Manifest manifest = talk.manifest();
  manifest.chunks[0].bytes = ManifestLimits{}.chunk;
  REQUIRE(publish_manifest(store, talk.folder, manifest));
  const auto report = verify_conversation(store, talk.folder).value();
  CHECK(report.chunks == 8);
  REQUIRE(report.problems.size() == 1);
  CHECK(report.problems.front().find("layer 0, block 0") != std::string::npos);
}

}  // namespace
}  // namespace krul
