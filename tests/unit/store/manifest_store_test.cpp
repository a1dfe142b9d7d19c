#include "krul/store/manifest_store.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>

#include "krul/store/faulty_store.hpp"
#include "krul/store/file_store.hpp"
#include "krul/store/memory_store.hpp"
#include "store_test_support.hpp"
#include "support/temporary_directory.hpp"

using namespace krul;
using test::folder_a;
using test::some_bytes;
using test::some_manifest;

namespace {

const std::string copy_a = folder_a + "/manifest-a", copy_b = folder_a + "/manifest-b";

Manifest of_generation(std::uint64_t generation) {
  Manifest manifest = some_manifest();
  manifest.generation = generation;
  return manifest;
}

void damage(MemoryStore& store, const std::string& key) {
  std::vector<std::byte> bytes(store.size(key).value());
  REQUIRE(store.get(key, 0, bytes));
  bytes[bytes.size() / 2] ^= std::byte{1};
  REQUIRE(store.put(key, bytes));
}

ErrorCode load_code(MemoryStore& store) {
  const auto loaded = load_manifest(store, folder_a);
  REQUIRE(!loaded);
  return loaded.error().code;
}

}  // namespace

TEST_CASE("what is published is loaded, from either copy") {
  MemoryStore store;
  CHECK(load_code(store) == ErrorCode::not_found);
  REQUIRE(publish_manifest(store, folder_a, of_generation(7)));
  const auto both = load_manifest(store, folder_a).value();
  CHECK(both.manifest == of_generation(7));
  CHECK(both.repaired.empty());
  const auto one = load_manifest(store, folder_a, ManifestCopies::first_valid).value();
  CHECK(one.manifest == both.manifest);
  CHECK(one.bytes * 2 == both.bytes);

  for (const std::string& key : {copy_a, copy_b}) {
    for (const bool erased : {false, true}) {
      REQUIRE(publish_manifest(store, folder_a, of_generation(7)));
      if (erased)
        REQUIRE(store.erase(key));
      else
        damage(store, key);
      for (const auto copies : {ManifestCopies::both, ManifestCopies::first_valid}) {
        const auto loaded = load_manifest(store, folder_a, copies);
        REQUIRE(loaded);
        CHECK(loaded->manifest == of_generation(7));
        const bool seen = copies == ManifestCopies::both || key == copy_a;
        CHECK((loaded->repaired.find(key.substr(33)) != std::string::npos) == seen);
      }
    }
  }
}

TEST_CASE("both copies damaged: corrupt, and what to do") {
  MemoryStore store;
  REQUIRE(publish_manifest(store, folder_a, of_generation(7)));
  damage(store, copy_a);
  damage(store, copy_b);
  const auto loaded = load_manifest(store, folder_a);
  REQUIRE(!loaded);
  CHECK(loaded.error().code == ErrorCode::corrupt);
  CHECK(loaded.error().message.find("erase") != std::string::npos);
  REQUIRE(store.erase(copy_a));
  CHECK(load_code(store) == ErrorCode::corrupt);
}

TEST_CASE("a save that is cut off between or before the copies: new or old, said so") {
  FaultyStore<MemoryStore> store{MemoryStore()};
  REQUIRE(publish_manifest(store, folder_a, of_generation(7)));
  store.set_faults({{.operation = Fault::Operation::put, .keys = "*/manifest-b", .code = ErrorCode::no_space}});
  CHECK(publish_manifest(store, folder_a, of_generation(8)).error().code == ErrorCode::no_space);
  auto loaded = load_manifest(store, folder_a).value();
  CHECK(loaded.manifest.generation == 8);
  CHECK(loaded.repaired.find("8 and 7") != std::string::npos);

  store.set_faults({{.operation = Fault::Operation::put, .keys = "*/manifest-a", .code = ErrorCode::no_space}});
  CHECK(!publish_manifest(store, folder_a, of_generation(9)));
  CHECK(load_manifest(store, folder_a)->manifest.generation == 8);
  store.set_faults({});
  REQUIRE(publish_manifest(store, folder_a, of_generation(9)));
  loaded = load_manifest(store, folder_a).value();
  CHECK(loaded.manifest.generation == 9);
  CHECK(loaded.repaired.empty());
}

TEST_CASE("an older krul never falls back behind a newer one's manifest") {
  MemoryStore store;
  REQUIRE(publish_manifest(store, folder_a, of_generation(7)));
  std::vector<std::byte> bytes = serialize(of_generation(8));
  bytes[8] = std::byte{2};
  const Checksum hash = checksum(std::span(bytes).first(bytes.size() - sizeof(Checksum)));
  std::copy_n(std::as_bytes(std::span(hash)).begin(), hash.size(), bytes.end() - sizeof(Checksum));
  REQUIRE(store.put(copy_a, bytes));
  CHECK(load_code(store) == ErrorCode::unsupported_version);
}

TEST_CASE("a store that fails is not a damaged conversation") {
  FaultyStore<MemoryStore> store{MemoryStore()};
  REQUIRE(publish_manifest(store, folder_a, of_generation(7)));
  store.set_faults({{.code = ErrorCode::deadline}});
  CHECK(load_manifest(store, folder_a).error().code == ErrorCode::deadline);
  store.set_faults({{.keys = "*/manifest-a", .code = ErrorCode::io}});
  CHECK(load_manifest(store, folder_a)->repaired.find("manifest-a") != std::string::npos);
  // Damage that is gone at the second look (a writer came between size and get) is none.
  store.set_faults({{.kind = Fault::Kind::corrupt, .count = 2}});
  CHECK(load_manifest(store, folder_a)->repaired.empty());
}

TEST_CASE("an object in a manifest's place that is larger than any manifest is not read") {
  FaultyStore<MemoryStore> store{MemoryStore()};
  REQUIRE(publish_manifest(store, folder_a, of_generation(7)));
  const auto loaded = load_manifest(store, folder_a, ManifestCopies::both, AnyManifest{}, {.bytes = 100});
  REQUIRE(!loaded);
  CHECK(store.gets() == 0);
}

TEST_CASE("garbage: what the manifest does not name goes, and nothing else") {
  MemoryStore store;
  const Manifest manifest = some_manifest();
  for (const std::string& object : manifest.objects) REQUIRE(store.put(folder_a + "/" + object, some_bytes(9, 1)));
  REQUIRE(store.put(folder_a + "/segment-8-deadbeef", some_bytes(9, 1)));
  REQUIRE(store.put(folder_a + "/stray", some_bytes(9, 1)));
  REQUIRE(store.put(test::folder_b + "/segment-8-deadbeef", some_bytes(9, 1)));
  REQUIRE(publish_manifest(store, folder_a, manifest));
  CHECK(unnamed_objects(store, folder_a, manifest) == std::vector<std::string>{"segment-8-deadbeef"});
  CHECK(collect_garbage(store, folder_a, manifest).value() == 1);
  CHECK(collect_garbage(store, folder_a, manifest).value() == 0);
  CHECK(store.list(folder_a)->size() == manifest.objects.size() + 3);
  CHECK(store.list(test::folder_b)->size() == 1);
  CHECK(load_manifest(store, folder_a));

  REQUIRE(erase_conversation(store, folder_a));
  CHECK(store.list(folder_a).value() == std::vector<std::string>{"stray"});  // somebody else's
  CHECK(conversation_objects(store, folder_a)->empty());
}

TEST_CASE("a copy that cannot be read is not a damaged one") {
  FaultyStore<MemoryStore> store{MemoryStore()};
  REQUIRE(publish_manifest(store, folder_a, of_generation(7)));
  store.set_faults({{.keys = "*/manifest-b", .code = ErrorCode::io}});
  auto loaded = load_manifest(store, folder_a).value();
  CHECK(loaded.unread);
  CHECK_FALSE(loaded.damaged);
  finish_interrupted(store, folder_a, loaded);
  CHECK_FALSE(loaded.repaired.empty());
  store.set_faults({{.code = ErrorCode::io}});
  CHECK(load_manifest(store, folder_a).error().code == ErrorCode::io);
}

TEST_CASE("an erase removes all that krul wrote, whatever stands in the place of one object") {
  const test::TemporaryDirectory directory;
  auto store = FileStore::open(directory.path(), {.durability = Durability::none}).value();
  const Manifest manifest = some_manifest();
  const auto folder = directory.path() / folder_a;
  const auto erase = [&] {
    const auto lock = store.lock(folder_a).value();
    return erase_conversation(store, folder_a);
  };
  std::string place;
  SUBCASE("the first copy of the manifest") {
    place = "manifest-a";
  }
  SUBCASE("the second one") {
    place = "manifest-b";
  }
  SUBCASE("a segment") {
    place = manifest.objects.front();
  }
  for (const std::string& object : manifest.objects) REQUIRE(store.put(folder_a + "/" + object, some_bytes(9, 1)));
  REQUIRE(publish_manifest(store, folder_a, manifest));
  std::filesystem::remove(folder / place);
  std::filesystem::create_directories(folder / place / "mine");
  std::filesystem::create_directory(folder / "sub");
  std::ofstream(folder / "notes.txt") << "mine";
  CHECK(erase().error().message.find("directory") != std::string::npos);
  CHECK(store.list(folder_a).value().size() == 3);
  CHECK(conversation_objects(store, folder_a) == std::vector<std::string>{place});
  std::filesystem::rename(folder / place, directory.path() / "elsewhere");
  CHECK(erase());
  CHECK(store.list(folder_a) == std::vector<std::string>{"notes.txt", "sub"});
}
