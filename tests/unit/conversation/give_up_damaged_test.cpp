#include "krul/conversation/give_up_damaged.hpp"

#include <doctest/doctest.h>

#include "krul/store/faulty_store.hpp"
#include "support/toy_talk.hpp"

namespace krul {
namespace {

using test::flip_byte;
using test::ToyTalk;

TEST_CASE("damage in a front that is recomputed by plan is healed once it was given up") {
  MemoryStore store;
  ToyTalk talk(store);
  REQUIRE(talk.turn(100));
  const Manifest before = talk.manifest();
  for (const std::size_t block : {0, 2})
    flip_byte(store, talk.folder + "/" + before.objects[0], before.chunk(1, block).offset);
  talk.options.costs = Costs{};
  const auto turn = [&](std::size_t count) {
    auto opened = talk.open(FullRecompute{});
    const auto report = opened.advance(std::span(talk.tokens).first(count), talk.logits).value();
    REQUIRE(opened.save());
    CHECK(talk.is_right(count));
    return report;
  };
  CHECK(turn(110).reasons.empty());
  CHECK_FALSE(talk.is_clean());
  CHECK(give_up_damaged(store, talk.folder) == 2);
  CHECK(talk.manifest().chunk(0, 2) == before.chunk(0, 2));
  CHECK_FALSE(talk.is_clean());
  CHECK(turn(120).damaged_blocks == std::vector<std::size_t>{0, 2});
  CHECK(talk.is_clean());
  CHECK(give_up_damaged(store, talk.folder) == 0);
}

TEST_CASE("a damaged copy of the manifest is replaced, and what is in order stays as it is") {
  MemoryStore store;
  ToyTalk talk(store);
  REQUIRE(talk.turn(40));
  const Manifest before = talk.manifest();
  CHECK(give_up_damaged(store, talk.folder) == 0);
  CHECK(talk.manifest() == before);
  flip_byte(store, talk.folder + "/manifest-a", 30);
  CHECK(give_up_damaged(store, talk.folder) == 0);
  CHECK(talk.is_clean());
}

TEST_CASE("what stands in the way of giving up damage is said") {
  MemoryStore memory;
  FaultyStore store(memory);
  ToyTalk talk(store);
  CHECK(give_up_damaged(store, talk.folder).error().code == ErrorCode::not_found);
  REQUIRE(talk.turn(40));
  flip_byte(memory, talk.folder + "/" + talk.manifest().objects[0], 0);
  {
    const auto opened = talk.open();
    CHECK(give_up_damaged(store, talk.folder).error().code == ErrorCode::busy);
  }
  store.set_faults({{.operation = Fault::Operation::put, .code = ErrorCode::no_space}});
  CHECK(give_up_damaged(store, talk.folder).error().code == ErrorCode::no_space);
  store.set_faults({{.keys = "*/manifest-a", .code = ErrorCode::io}});
  CHECK(give_up_damaged(store, talk.folder).error().message.find("manifest-a") != std::string::npos);
}

TEST_CASE("what only cannot be read is not given up") {
  MemoryStore memory;
  FaultyStore store(memory);
  ToyTalk talk(store);
  REQUIRE(talk.turn(40));
  const Manifest before = talk.manifest();
  store.set_faults({{.keys = "*/segment-*", .code = ErrorCode::io}});
  CHECK(give_up_damaged(store, talk.folder) == 0);
  CHECK(talk.manifest() == before);
}

}  // namespace
}  // namespace krul
