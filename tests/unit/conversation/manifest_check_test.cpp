#include "krul/conversation/manifest_check.hpp"
#include "krul/compress/any_codec.hpp"
#include "krul/compress/coding_numbers.hpp"
#include "krul/compress/float_codec.hpp"
#include "krul/compress/int8_codec.hpp"

#include <doctest/doctest.h>

#include <algorithm>

#include "support/toy_talk.hpp"

namespace krul {
namespace {

using test::ToyTalk;

/// A manifest with a right checksum that serialize would refuse to write.
std::vector<std::byte> sealed(std::vector<std::byte> bytes) {
  const Checksum hash = checksum(std::span(bytes).first(bytes.size() - sizeof(Checksum)));
  std::copy_n(std::as_bytes(std::span(hash)).begin(), hash.size(), bytes.end() - sizeof(Checksum));
  return bytes;
}

TEST_CASE("what a manifest claims is checked against what is possible before anything is allocated") {
  MemoryStore store;
  ToyTalk talk(store);
  REQUIRE(talk.turn(40));
  Manifest forged = talk.manifest();
  const std::size_t layers = talk.model.geometry().layers;
  std::string said;
  SUBCASE("a chunk of more bytes than its rows can take") {
    forged.chunks[1].bytes = 1 << 20;
    said = "layer 0 and block 1";
  }
  SUBCASE("fewer layers than the model has") {
    forged.layers = layers - 1;
    forged.chunks.resize(forged.layers * forged.blocks());
    said = "layers";
  }
  SUBCASE("more layers") {
    forged.layers = layers + 1;
    forged.chunks.resize(forged.layers * forged.blocks());
    said = "layers";
  }
  SUBCASE("a chunk of another coding than its plan says") {
    forged.chunks[1].codec ^= 3;  // exact, to f16
    said = "another coding than its plan";
  }
  SUBCASE("a chunk that needs a profile which its plan does not name") {
    forged.chunks[1].codec = joint_coding;
    said = "another coding than its plan";
  }
  SUBCASE("a token beyond the vocabulary") {
    forged.tokens[3] = static_cast<Token>(talk.model.geometry().vocabulary);
    said = "vocabulary";
  }
  REQUIRE(publish_manifest(store, talk.folder, forged));
  for (const bool read_only : {false, true}) {
    talk.options.read_only = read_only;
    const auto opened = ToyTalk::Talk::open(talk.model, talk.store, "a talk", talk.options);
    REQUIRE_FALSE(opened);
    CHECK(opened.error().code == ErrorCode::corrupt);
    CHECK(opened.error().message.find(said) != std::string::npos);
  }
}

TEST_CASE("a type of rows that was forged in one copy is seen, whatever type they have, and the other copy is taken") {
  const auto number = [](const AnyRowCodec& codec) { return krul_coding_number(codec.name()).value(); };
  for (const AnyRowCodec& codec : {AnyRowCodec(F16Codec{}), AnyRowCodec(Bf16Codec{}), AnyRowCodec(Int8Codec{})}) {
    MemoryStore store;
    ToyTalk talk(store);
    talk.turns_by = strategy::by_layer("typed", codec);
    REQUIRE(talk.turn(40));
    for (const AnyRowCodec& other : AnyRowCodec::all()) {
      if (number(other) == number(codec)) continue;
      Manifest forged = talk.manifest();
      forged.chunks[2].codec = number(other);
      REQUIRE(store.put(talk.folder + "/manifest-a", serialize(forged)));
      const auto report = verify_conversation(store, talk.folder).value();
      REQUIRE(report.problems.size() == 1);
      CHECK(report.problems.front().find("another coding than its plan") != std::string::npos);
      CHECK(talk.open().manifest().chunks[2].codec == number(codec));
    }
  }
}

TEST_CASE("claims that no model could make are refused when the manifest is read") {
  MemoryStore store;
  ToyTalk talk(store);
  REQUIRE(talk.turn(40));
  const Manifest good = talk.manifest();
  std::vector<std::byte> bytes = serialize(good);
  const auto record = [&](std::size_t chunk) {  // where a chunk's record begins
    std::vector<std::byte> hash(16);
    std::copy_n(std::as_bytes(std::span(good.chunks[chunk].hash)).begin(), 16, hash.begin());
    return std::search(bytes.begin(), bytes.end(), hash.begin(), hash.end()) - 20;
  };
  SUBCASE("a chunk of 4 GiB") {
    std::fill_n(record(2) + 12, 4, std::byte{0xff});
  }
  SUBCASE("an offset behind the end of every object") {
    std::fill_n(record(2) + 4, 8, std::byte{0xff});
  }
  SUBCASE("a generation that no number of saves reaches") {
    const auto section = bytes.begin() + 20 + 12 + static_cast<std::ptrdiff_t>(good.conversation.size()) + 12;
    std::fill_n(section, 8, std::byte{0xff});
  }
  CHECK(parse_manifest(sealed(bytes)).error().code == ErrorCode::corrupt);
  REQUIRE(store.put(talk.folder + "/manifest-a", sealed(bytes)));
  CHECK(talk.turn(45));  // the other copy
  CHECK(talk.is_right(45));
  CHECK(talk.is_clean());
}

TEST_CASE("a whole manifest of another conversation, whatever its generation, does not win") {
  MemoryStore store;
  ToyTalk talk(store);
  REQUIRE(talk.turn(40));
  Manifest foreign = talk.manifest();
  foreign.conversation = "another talk";
  foreign.generation = 100;
  for (const auto* copy : {"/manifest-a", "/manifest-b"}) {
    REQUIRE(store.put(talk.folder + copy, serialize(foreign)));
    const auto report = verify_conversation(store, talk.folder);
    REQUIRE(report);
    CHECK(report->conversation == "a talk");
    REQUIRE(report->problems.size() == 1);
    CHECK(report->problems.front().find("another conversation") != std::string::npos);
    talk.options.read_only = true;
    CHECK(talk.open().saved_tokens().size() == 40);
    talk.options.read_only = false;
    REQUIRE(talk.turn(45));
    CHECK(talk.is_right(45));
    CHECK(talk.manifest().conversation == "a talk");
    CHECK(talk.is_clean());
    REQUIRE(talk.turn(40));
  }
  REQUIRE(publish_manifest(store, talk.folder, foreign));
  CHECK(talk.turn(45).error().code == ErrorCode::corrupt);
  CHECK(verify_conversation(store, talk.folder).error().message.find("another conversation") != std::string::npos);
}

}  // namespace
}  // namespace krul
