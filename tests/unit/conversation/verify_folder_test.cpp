#include "krul/conversation/verify_folder.hpp"

#include <doctest/doctest.h>

#include <fstream>
#include <stdexcept>

#include "krul/store/file_store.hpp"
#include "support/temporary_directory.hpp"
#include "support/toy_talk.hpp"

namespace krul {
namespace {

using test::ToyTalk;

struct SavedInFiles {
  test::TemporaryDirectory directory;
  FileStore store = FileStore::open(directory.path(), {.durability = Durability::none}).value();
  ToyTalk talk{store};
  SavedInFiles() { REQUIRE(talk.turn(30)); }

  [[nodiscard]] std::string state() { return verify_folder(store, talk.folder).state(); }
};

TEST_CASE("a folder is told by the worst of what is found there") {
  SavedInFiles saved;
  CHECK(saved.state() == "ok");
  SUBCASE("a chunk that is not as it was written") {
    const std::string segment = saved.talk.folder + "/" + saved.talk.manifest().objects.front();
    std::vector<std::byte> bytes(saved.store.size(segment).value());
    REQUIRE(saved.store.put(segment, bytes));
    const VerifiedFolder found = verify_folder(saved.store, saved.talk.folder);
    CHECK(found.state() == "damaged");
    CHECK_FALSE(found.problems().empty());
    CHECK(found.unread().empty());
  }
  SUBCASE("no copy of the manifest is one") {
    for (const char* copy : {"/manifest-a", "/manifest-b"})
      REQUIRE(saved.store.put(saved.talk.folder + copy, test::toy_bytes(10)));
    const VerifiedFolder found = verify_folder(saved.store, saved.talk.folder);
    CHECK(found.state() == "damaged");
    CHECK_FALSE(found.report);
    CHECK(found.problems().size() == 1);
  }
  SUBCASE("an erase that was cut off") {
    for (const char* copy : {"/manifest-a", "/manifest-b"}) REQUIRE(saved.store.erase(saved.talk.folder + copy));
    const VerifiedFolder found = verify_folder(saved.store, saved.talk.folder);
    CHECK(found.state() == "unfinished");
    CHECK_FALSE(found.leftovers.empty());
    CHECK_FALSE(found.is_nothing());
  }
  SUBCASE("nothing") {
    REQUIRE(erase_conversation(saved.store, saved.talk.folder));
    CHECK(verify_folder(saved.store, saved.talk.folder).is_nothing());
  }
}

TEST_CASE("many folders are summed up by what is wrong with any of them") {
  SavedInFiles saved;
  VerifySummary summary;
  const VerifiedFolder whole = verify_folder(saved.store, saved.talk.folder);
  summary.add(whole);
  CHECK(summary.is_ok());
  CHECK(summary.chunks == whole.report->chunks);
  const std::string segment = saved.talk.folder + "/" + saved.talk.manifest().objects.front();
  REQUIRE(saved.store.put(segment, std::vector<std::byte>(saved.store.size(segment).value())));
  summary.add(verify_folder(saved.store, saved.talk.folder));
  CHECK(summary.damaged);
  CHECK_FALSE(summary.lost);
  for (const char* copy : {"/manifest-a", "/manifest-b"})
    REQUIRE(saved.store.put(saved.talk.folder + copy, test::toy_bytes(10)));
  const VerifiedFolder lost = verify_folder(saved.store, saved.talk.folder);
  CHECK(lost.is_lost());
  CHECK_FALSE(lost.is_damaged());
  summary.add(lost);
  CHECK(summary.lost);
  CHECK_FALSE(summary.unfinished);
  CHECK_FALSE(summary.unreadable);
  for (const char* copy : {"/manifest-a", "/manifest-b"}) REQUIRE(saved.store.erase(saved.talk.folder + copy));
  summary.add(verify_folder(saved.store, saved.talk.folder));
  CHECK(summary.unfinished);
  CHECK_FALSE(summary.is_ok());
}

TEST_CASE("what a dead writer left behind is a folder to look at, and a leftover") {
  SavedInFiles saved;
  const std::string other(32, 'b');
  std::filesystem::create_directory(saved.directory.path() / other);
  std::ofstream(saved.directory.path() / other / ".new-1-2") << "left behind";
  const auto folders = folders_to_verify(saved.store);
  REQUIRE(folders);
  CHECK(folders->size() == 2);
  CHECK(std::is_sorted(folders->begin(), folders->end()));
  const VerifiedFolder found = verify_folder(saved.store, other);
  CHECK(found.leftovers == std::vector<std::string>{".new-1-2"});
  CHECK(found.is_unfinished());
}

/// A store of which nothing can be read.
struct Throwing : FileStore {
  explicit Throwing(const FileStore& store) : FileStore(store) {}
  Status get(const std::string&, std::uint64_t, std::span<std::byte>) { throw std::runtime_error("no memory"); }
};

TEST_CASE("whatever a folder throws, the next one can be looked at") {
  SavedInFiles saved;
  Throwing store(saved.store);
  const VerifiedFolder found = verify_folder(store, saved.talk.folder);
  CHECK(found.state() == "unreadable");
  REQUIRE(found.unread().size() == 1);
  CHECK(found.unread().front().find("no memory") != std::string::npos);
}

}  // namespace
}  // namespace krul
