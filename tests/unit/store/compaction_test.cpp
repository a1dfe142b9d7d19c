#include "krul/store/compaction.hpp"

#include <doctest/doctest.h>

#include "krul/store/faulty_store.hpp"
#include "krul/store/memory_store.hpp"
#include "store_test_support.hpp"

using namespace krul;
using test::folder_a;
using test::some_bytes;

namespace {

/// One layer, two objects of two chunks each, of which only the first is still needed; the rest is waste.
struct Wasteful {
  FaultyStore<MemoryStore> store{MemoryStore()};
  Manifest manifest;

  Wasteful() {
    manifest.conversation = "a";
    manifest.generation = 3;
    manifest.layers = 1;
    manifest.block = 4;
    manifest.rows = 8;
    manifest.tokens.assign(8, 1);
    manifest.plans = {{}};
    for (std::uint32_t object = 0; object < 2; ++object) {
      const auto bytes = some_bytes(100, object);
      manifest.objects.push_back(segment_name(object + 1, bytes));
      REQUIRE(store.put(key(object), bytes));
      manifest.chunks.push_back(
          {.object = object, .offset = 10, .bytes = 50, .hash = checksum(std::span(bytes).subspan(10, 50))});
    }
  }
  std::string key(std::size_t object) const { return folder_a + "/" + manifest.objects[object]; }
  /// Whether a block's chunk is still what was written.
  bool is_whole(std::size_t block) {
    const ChunkRecord& chunk = manifest.chunk(0, block);
    std::vector<std::byte> bytes(chunk.bytes);
    return store.get(key(chunk.object), chunk.offset, bytes) && checksum(bytes) == chunk.hash;
  }
};

}  // namespace

TEST_CASE("chunks are moved out of objects that mostly are not needed") {
  Wasteful saved;
  const Compaction done = compact_objects(saved.store, folder_a, saved.manifest);
  CHECK(done.bytes == 100);
  CHECK(done.damaged_blocks.empty());
  CHECK(saved.manifest.objects.size() == 1);
  CHECK(saved.is_whole(0));
  CHECK(saved.is_whole(1));
  CHECK(compact_objects(saved.store, folder_a, saved.manifest).bytes == 0);
}

TEST_CASE("an object that cannot be read whole stays, the others are moved, and damage is told") {
  Wasteful saved;
  const std::string first = saved.key(0);
  std::vector<std::size_t> damaged = {0};
  SUBCASE("cut off, below what is needed of it") {
    REQUIRE(saved.store.put(first, some_bytes(20, 0)));
  }
  SUBCASE("empty") {
    REQUIRE(saved.store.put(first, {}));
  }
  SUBCASE("gone") {
    REQUIRE(saved.store.erase(first));
  }
  SUBCASE("a byte is another one") {
    REQUIRE(saved.store.put(first, some_bytes(100, 7)));
  }
  SUBCASE("a sector cannot be read") {
    saved.store.set_faults({{.keys = first, .code = ErrorCode::medium}});
  }
  SUBCASE("a read is refused: no right to, a limit") {
    saved.store.set_faults({{.keys = first}});
    damaged = {};
  }
  SUBCASE("it cannot be reached for now") {
    saved.store.set_faults({{.keys = first, .code = ErrorCode::deadline}});
    damaged = {};
  }
  const Compaction done = compact_objects(saved.store, folder_a, saved.manifest);
  CHECK(done.damaged_blocks == damaged);
  CHECK(done.bytes == 50);
  CHECK(saved.manifest.objects.size() == 2);
  CHECK(folder_a + "/" + saved.manifest.objects[saved.manifest.chunk(0, 0).object] == first);
  CHECK(saved.is_whole(1));
}

TEST_CASE("where there is no room for the copy nothing moves") {
  Wasteful saved;
  const Manifest before = saved.manifest;
  saved.store.set_faults({{.operation = Fault::Operation::put, .code = ErrorCode::no_space}});
  CHECK(compact_objects(saved.store, folder_a, saved.manifest).bytes == 0);
  CHECK(saved.manifest == before);
}

TEST_CASE("chunks that claim more than their object holds, together or each, take no memory") {
  Wasteful saved;
  for (ChunkRecord& chunk : saved.manifest.chunks) chunk.bytes = ManifestLimits{}.chunk;
  CHECK(compact_objects(saved.store, folder_a, saved.manifest).damaged_blocks.size() == 2);
}
