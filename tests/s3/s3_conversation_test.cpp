#include <algorithm>
#include <string>

#include "s3_server.hpp"
#include "support/toy_talk.hpp"

namespace krul::test {

TEST_CASE("a conversation is saved in a bucket and restored by another store, in few requests") {
  const CalmServer server;
  if (!server) return;
  const S3StoreOptions options = server->options();
  S3Store writer = open_s3(options);
  ToyTalk talk(writer);
  REQUIRE(talk.turn(70));
  server->count();
  REQUIRE(talk.turn(100));
  CHECK(talk.is_right(100));
  // Written: the lock, a segment, both manifests. Read: the manifests that were found and are replaced, the segment's
  // size and bytes, what else lies there.
  const auto turn = server->count()["counts"];
  CAPTURE(turn.dump());
  CHECK(turn["PUT"] == 4);
  CHECK(turn["DELETE"] == 1);
  CHECK(turn["GET"].get<int>() + turn["HEAD"].get<int>() <= 10);
  S3Store reader = open_s3(options);
  ToyTalk again(reader);
  server->count();
  {
    auto opened = again.open();
    REQUIRE(opened.advance(std::span(again.tokens).first(110), again.logits));
    CHECK(again.is_right(110));
    // A layer's rows lie in two segments, and in each of them beside each other: eight ranges for four layers.
    const auto restore = server->count()["counts"];
    CAPTURE(restore.dump());
    CHECK(restore["GET"].get<int>() + restore["HEAD"].get<int>() <= 16);
  }
  CHECK(again.is_clean());
}

TEST_CASE("a byte that the network changes is found, and what it was in recomputed") {
  const CalmServer server;
  if (!server) return;
  S3Store store = open_s3(server->options());
  ToyTalk talk(store);
  REQUIRE(talk.turn(70));
  server->command({{"fault", "flip"}, {"times", 1}, {"method", "GET"}, {"match", "seg"}});
  REQUIRE(talk.turn(90));
  CHECK(talk.is_right(90));
  CHECK(talk.last.repaired_rows > 0);
  REQUIRE(talk.turn(100));
  CHECK(talk.is_right(100));
}

TEST_CASE("a conversation goes on while a tenth of all answers is an error and others are cut") {
  const CalmServer server;
  if (!server) return;
  S3Store store = open_s3(server->options());
  ToyTalk talk(store);
  server->command({{"share", 0.1}, {"seed", 3}});
  for (const char* const kind : {"cut", "refuse", "forget"}) server->command({{"fault", kind}, {"times", 2}});
  for (const std::size_t count : {40, 70, 100}) {
    REQUIRE(talk.turn(count));
    CHECK(talk.is_right(count));
  }
  CHECK(server->count()["broken"] > 6);
  server->command({{"calm", true}});
  CHECK(talk.is_clean());
}

TEST_CASE("of two writers one saves whole, and the other hears that it is too late") {
  const CalmServer server;
  if (!server) return;
  const S3StoreOptions options = server->options();
  S3Store first_store = open_s3(options), second_store = open_s3(options);
  ToyTalk first(first_store), second(second_store);
  REQUIRE(first.turn(40));
  auto slow = first.open();
  REQUIRE(slow.advance(std::span(first.tokens).first(60), first.logits));
  CHECK(second.turn(60).error().code == ErrorCode::busy);

  // The first one is silent for so long that its lock runs out, unseen by itself.
  server->command({{"clock", 65}});
  second.tokens = toy_tokens(200, 1);
  std::copy_n(toy_tokens(200, 9).begin(), 100, second.tokens.begin() + 50);
  REQUIRE(second.turn(80));
  CHECK(second.is_right(80));
  const auto late = slow.save();
  CHECK(late.error().code == ErrorCode::busy);
  CHECK(verify_conversation(second_store, second.folder).value().problems.empty());
  const Manifest kept = second.manifest();
  CHECK(std::equal(kept.tokens.begin(), kept.tokens.end(), second.tokens.begin()));
  CHECK(kept.tokens.size() == 80);
  REQUIRE(second.turn(90));
  CHECK(second.is_right(90));
  CHECK(second.last.repaired_rows == 0);
  CHECK(second.is_clean());  // the late one's segment is gone too
}

}  // namespace krul::test
