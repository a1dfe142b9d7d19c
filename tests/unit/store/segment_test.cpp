#include "krul/store/segment.hpp"

#include <doctest/doctest.h>

#include "store_test_support.hpp"

using namespace krul;
using test::some_bytes;
using test::some_manifest;
using test::some_segment;

TEST_CASE("a segment's name is told from what others may call their files") {
  CHECK(is_segment_name(segment_name(1, some_bytes(3, 1))));
  CHECK(is_segment_name(segment_name(UINT64_MAX, {})));
  for (const char* name : {"", "segment-", "segment-1", "segment-1-", "segment--00112233", "segment-1-0011223",
                           "segment-1-001122334", "segment-1-0011223x", "segment-x-00112233", "segment-1-00112233-",
                           "segment-notes", "manifest-a", "xsegment-1-00112233"}) {
    CAPTURE(name);
    CHECK_FALSE(is_segment_name(name));
  }
}

TEST_CASE("a segment is layer-major and its records say where everything is") {
  SegmentWriter segment({2, 5, 2});
  std::vector<std::vector<std::byte>> chunks;
  for (std::uint32_t i = 0; i < 4; ++i) chunks.push_back(some_bytes(10 + i, i));
  chunks[2].clear();  // not stored
  for (const auto& chunk : chunks) {
    CHECK_FALSE(segment.complete());
    segment.add(chunk, 9, 4);
  }
  CHECK(segment.complete());
  CHECK(segment.bytes().size() == 10 + 11 + 13);
  for (std::size_t i = 0; i < 4; ++i) {
    const ChunkRecord& record = segment.records()[i];
    CHECK(record.is_stored() == !chunks[i].empty());
    if (!record.is_stored()) {
      CHECK(record == ChunkRecord{});
      continue;
    }
    CHECK(record.codec == 9);
    CHECK(record.plan == 4);
    const auto bytes = segment.bytes().subspan(record.offset, record.bytes);
    CHECK(std::equal(bytes.begin(), bytes.end(), chunks[i].begin(), chunks[i].end()));
    CHECK(verify(bytes, record.hash, "chunk"));
  }
  CHECK_THROWS_AS(segment.add({}, 0, 0), PreconditionError);
}

TEST_CASE("a segment's name is legal and depends on generation and content") {
  const SegmentWriter one = some_segment({1, 0, 1}, 1), two = some_segment({1, 0, 1}, 2);
  CHECK(one.name(3) == some_segment({1, 0, 1}, 1).name(3));
  CHECK(one.name(3) != two.name(3));
  CHECK(one.name(3).starts_with("segment-3-"));
  CHECK(one.name(UINT64_MAX).size() == 8 + 20 + 1 + 8);
}

namespace {

/// Of 20 tokens of which nothing is saved: two layers, blocks of four, one plan.
Manifest empty_manifest() {
  Manifest manifest;
  manifest.conversation = "c";
  manifest.layers = 2;
  manifest.block = 4;
  manifest.plans.emplace_back();
  manifest.tokens.assign(20, 1);
  return manifest;
}

}  // namespace

TEST_CASE("saves append: closed blocks stay, the tail is written again, unused objects are forgotten") {
  Manifest manifest = empty_manifest();
  enter_segment(manifest, some_segment({2, 0, 2}, 1), "segment-1-a", 6);  // block 0, and half of block 1
  const Manifest first = manifest;
  REQUIRE(validate(first));
  enter_segment(manifest, some_segment({2, 1, 3}, 50), "segment-2-b", 13);  // blocks 1 to 3, the last one short
  REQUIRE(validate(manifest));
  CHECK(manifest.blocks() == 4);
  CHECK(manifest.objects == std::vector<std::string>{"segment-1-a", "segment-2-b"});
  for (std::size_t layer = 0; layer < 2; ++layer) {
    CHECK(manifest.chunk(layer, 0) == first.chunk(layer, 0));
    for (std::size_t block = 1; block < 4; ++block) CHECK(manifest.chunk(layer, block).object == 1);
  }
  enter_segment(manifest, some_segment({2, 3, 1}, 70), "segment-3-c", 16);
  CHECK(manifest.objects.size() == 3);
  enter_segment(manifest, some_segment({2, 4, 1}, 80), "segment-4-d", 17);
  enter_segment(manifest, some_segment({2, 4, 1}, 90), "segment-5-e", 20);
  CHECK(manifest.objects == std::vector<std::string>{"segment-1-a", "segment-2-b", "segment-3-c", "segment-5-e"});
  CHECK(validate(manifest));

  // A whole new save forgets everything; a shorter history forgets what lies behind it.
  enter_segment(manifest, some_segment({2, 0, 1}, 95), "segment-6-f", 3);
  CHECK(manifest.objects == std::vector<std::string>{"segment-6-f"});
  CHECK(manifest.chunks.size() == 2);
  CHECK(validate(manifest));
}

TEST_CASE("damaged blocks are replaced where they are, and all others stay") {
  Manifest manifest = empty_manifest();
  enter_segment(manifest, some_segment({2, 0, 4}, 1), "segment-1-a", 16);
  const Manifest first = manifest;
  const SegmentWriter mended = some_segment({2, 4, 1, {0, 2}}, 50);
  CHECK(mended.shape().count() == 3);
  enter_segment(manifest, mended, "segment-2-b", 18);
  REQUIRE(validate(manifest));
  for (std::size_t layer = 0; layer < 2; ++layer) {
    for (const std::size_t block : {1, 3}) CHECK(manifest.chunk(layer, block) == first.chunk(layer, block));
    CHECK(manifest.chunk(layer, 0).hash == mended.records()[layer * 3].hash);
    CHECK(manifest.chunk(layer, 2).hash == mended.records()[layer * 3 + 1].hash);
    CHECK(manifest.chunk(layer, 4).hash == mended.records()[layer * 3 + 2].hash);
  }
  enter_segment(manifest, some_segment({2, 4, 1, {1, 3}}, 80), "segment-3-c", 18);
  CHECK(manifest.objects == std::vector<std::string>{"segment-2-b", "segment-3-c"});
  CHECK_THROWS_AS(enter_segment(manifest, some_segment({2, 4, 1, {4}}, 1), "segment-4-d", 18), PreconditionError);
}

TEST_CASE("segments that do not fit are the caller's mistake") {
  Manifest manifest = some_manifest();  // 2 layers, 6 rows in blocks of 4
  manifest.tokens.resize(40, 0);
  CHECK_THROWS_AS(enter_segment(manifest, SegmentWriter({2, 1, 1}), "segment-1-a", 8), PreconditionError);
  CHECK_THROWS_AS(enter_segment(manifest, some_segment({1, 1, 1}, 1), "segment-1-a", 8), PreconditionError);
  CHECK_THROWS_AS(enter_segment(manifest, some_segment({2, 2, 1}, 1), "segment-1-a", 12), PreconditionError);
  CHECK_THROWS_AS(enter_segment(manifest, some_segment({2, 1, 1}, 1), "segment-1-a", 9), PreconditionError);
  CHECK_THROWS_AS(enter_segment(manifest, some_segment({2, 1, 1}, 1), "segment-1-a", 4), PreconditionError);
  CHECK(manifest.rows == 6);
}
