#include "krul/conversation/saved_conversations.hpp"

#include <doctest/doctest.h>

#include <fstream>

#include "krul/store/file_store.hpp"
#include "support/temporary_directory.hpp"
#include "support/toy_talk.hpp"

namespace krul {
namespace {

using test::ToyTalk;

static_assert(TellsOtherNames<FileStore> && !TellsOtherNames<MemoryStore>);

struct SavedTalk {
  test::TemporaryDirectory directory;
  FileStore store = FileStore::open(directory.path(), {.durability = Durability::none}).value();
  ToyTalk talk{store};

  SavedTalk() { REQUIRE(talk.turn(30)); }
};

TEST_CASE("what is saved is read without a model") {
  SavedTalk saved;
  const auto loaded = load_saved(saved.store, "a talk");
  REQUIRE(loaded);
  CHECK(loaded->manifest.tokens.size() == 30);
  CHECK(saved_cache_type(loaded->manifest) == ElementType::f32);
  CHECK(load_saved(saved.store, "another").error().code == ErrorCode::not_found);
  CHECK(load_saved(saved.store, "").error().code == ErrorCode::invalid_argument);
  Manifest other = loaded->manifest;
  other.identity.geometry = "L=1";
  CHECK_FALSE(saved_cache_type(other));
  other.identity.geometry = "L=1 cache=f4";
  CHECK_FALSE(saved_cache_type(other));
}

TEST_CASE("a conversation that cannot be read does not hide the others") {
  SavedTalk saved;
  const std::string other(32, 'b'), empty(32, 'c');
  REQUIRE(saved.store.put(other + "/manifest-a", test::toy_bytes(10)));
  REQUIRE(saved.store.put(empty + "/something", test::toy_bytes(10)));
  const auto found = saved_conversations(saved.store);
  REQUIRE(found);
  REQUIRE(found->size() == 2);
  for (const auto& [folder, each] : *found) {
    CHECK((folder == other || folder == saved.talk.folder));
    CHECK(each.has_value() == (folder == saved.talk.folder));
    if (!each) CHECK(each.error().code == ErrorCode::corrupt);
  }
}

TEST_CASE("an erase takes what is krul's, and tells what it leaves") {
  SavedTalk saved;
  std::ofstream(saved.directory.path() / saved.talk.folder / "Not krul's") << "mine";
  REQUIRE(saved.store.put(saved.talk.folder + "/notes", test::toy_bytes(3)));
  const auto erased = erase_saved(saved.store, "a talk");
  REQUIRE(erased);
  CHECK(erased->status);
  CHECK(erased->left == std::vector<std::string>{"Not krul's", "notes"});
  CHECK(load_saved(saved.store, "a talk").error().code == ErrorCode::not_found);
  CHECK(erase_saved(saved.store, "a talk").error().code == ErrorCode::not_found);
  CHECK(erase_saved(saved.store, "").error().code == ErrorCode::invalid_argument);
}

TEST_CASE("an erase that was cut off can be ended, and one of a conversation in use cannot begin") {
  SavedTalk saved;
  {
    const auto lock = saved.store.lock(saved.talk.folder);
    REQUIRE(lock);
    CHECK(erase_saved(saved.store, "a talk").error().code == ErrorCode::busy);
  }
  for (const char* copy : {"/manifest-a", "/manifest-b"}) REQUIRE(saved.store.erase(saved.talk.folder + copy));
  REQUIRE(erase_saved(saved.store, "a talk"));
  CHECK(saved.store.list(saved.talk.folder).value_or(std::vector<std::string>{}).empty());
}

}  // namespace
}  // namespace krul
