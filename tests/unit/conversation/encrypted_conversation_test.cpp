#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "krul/store/encrypted_store.hpp"
#include "support/encryption_key.hpp"
#include "support/toy_talk.hpp"

namespace krul {
namespace {

TEST_CASE("an encrypted conversation comes back; a tag that was damaged is computed again and reported") {
  MemoryStore behind;
  auto store = EncryptedStore<MemoryStore>::make(behind, {test::key_of_all(1)});
  if (!store) {
    MESSAGE("skipped: " << store.error().message);
    return;
  }
  test::ToyTalk talk(*store);
  REQUIRE(talk.turn(100));
  REQUIRE(talk.turn(120));
  CHECK(talk.is_right(120));
  CHECK(talk.last.reasons.empty());
  CHECK(talk.is_clean());

  // The last byte of a segment's first page is one of its tag.
  const std::string key = object_key(talk.folder, talk.manifest().objects.front());
  const std::uint64_t end = std::min(behind.size(key).value(), PageLayout::page + PageLayout::extra);
  test::flip_byte(behind, key, end - 1);
  REQUIRE(talk.turn(140));
  CHECK(talk.is_right(140));
  CHECK_FALSE(talk.last.reasons.empty());
  REQUIRE(talk.turn(150));
  CHECK(talk.is_right(150));
  CHECK(talk.last.reasons.empty());  // the save after the damage wrote it again

  // With another key there is no conversation to be read, and none is made up.
  auto other = EncryptedStore<MemoryStore>::make(behind, {test::key_of_all(2)}).value();
  test::ToyTalk stranger(other);
  const auto refused = stranger.turn(160);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == ErrorCode::corrupt);
  // With the old one among the older ones it goes on under the new one.
  auto rotated = EncryptedStore<MemoryStore>::make(behind, {test::key_of_all(2), {test::key_of_all(1)}}).value();
  test::ToyTalk heir(rotated);
  REQUIRE(heir.turn(160));
  CHECK(heir.is_right(160));
  CHECK(load_manifest(other, heir.folder));
}

}  // namespace
}  // namespace krul
