#include "krul/store/manifest.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include "store_test_support.hpp"

using namespace krul;
using test::some_bytes;
using test::some_manifest;

namespace {

using Bytes = std::vector<std::byte>;

// Makes length and checksum fit again, so that what lies between them is what is tested.
Bytes sealed(Bytes bytes) {
  const std::uint64_t length = bytes.size();
  for (std::size_t i = 0; i < 8; ++i) bytes[12 + i] = static_cast<std::byte>(length >> (8 * i));
  const Checksum hash = checksum(std::span(bytes).first(bytes.size() - sizeof(Checksum)));
  std::memcpy(bytes.data() + bytes.size() - hash.size(), hash.data(), hash.size());
  return bytes;
}

struct Place {
  std::size_t header;  // of the section: id, length
  std::size_t begin;   // of its content
  std::size_t end;
};

// Where a section lies, found as docs/format.md says.
Place section(const Bytes& bytes, std::uint32_t id) {
  const auto number = [&](std::size_t at, std::size_t count) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < count; ++i) value |= std::to_integer<std::uint64_t>(bytes[at + i]) << (8 * i);
    return value;
  };
  for (std::size_t at = 20;;) {
    const std::size_t length = number(at + 4, 8);
    if (number(at, 4) == id) return {at, at + 12, at + 12 + length};
    at += 12 + length;
  }
}

void set_number(Bytes& bytes, std::size_t at, std::uint64_t value, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) bytes[at + i] = static_cast<std::byte>(value >> (8 * i));
}

ErrorCode code_of(const Bytes& bytes) {
  const auto manifest = parse_manifest(bytes);
  REQUIRE(!manifest);
  CHECK(!manifest.error().message.empty());
  return manifest.error().code;
}

std::filesystem::path golden_file() {
  return std::filesystem::path(KRUL_TEST_VECTORS) / "manifest-1.0.bin";
}

}  // namespace

TEST_CASE("what is serialized is parsed, field by field") {
  const Manifest manifest = some_manifest();
  REQUIRE(validate(manifest));
  const Bytes bytes = serialize(manifest);
  const auto parsed = parse_manifest(bytes);
  REQUIRE(parsed);
  CHECK(*parsed == manifest);
  CHECK(serialize(*parsed) == bytes);

  Manifest nothing_stored;
  nothing_stored.conversation = "c";
  nothing_stored.layers = 3;
  CHECK(parse_manifest(serialize(nothing_stored)).value() == nothing_stored);
  nothing_stored.tokens = {1, 2, 3};
  CHECK(parse_manifest(serialize(nothing_stored)).value() == nothing_stored);
}

TEST_CASE("the golden file of version 1.0 is read for ever, and written the same") {
  std::ifstream file(golden_file(), std::ios::binary);
  REQUIRE(file);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto view = std::as_bytes(std::span(text));
  const auto manifest = parse_manifest(view);
  REQUIRE(manifest);
  CHECK(*manifest == some_manifest());
  CHECK(serialize(*manifest) == Bytes(view.begin(), view.end()));
}

// How the golden file was made, once: krul_test_unit_store -tc='write the golden*' --no-skip
TEST_CASE("writes the golden file; run by hand when the format changes" * doctest::skip()) {
  const Bytes bytes = serialize(some_manifest());
  std::ofstream(golden_file(), std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

TEST_CASE("cut off at every byte: an error") {
  const Bytes bytes = serialize(some_manifest());
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    const Bytes cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(length));
    REQUIRE(code_of(cut) == ErrorCode::truncated);
    // The same with a length and a checksum that fit.
    if (length >= 36) REQUIRE(!parse_manifest(sealed(cut)));
  }
  Bytes longer = bytes;
  longer.push_back(std::byte{0});
  CHECK(code_of(longer) == ErrorCode::corrupt);
}

TEST_CASE("any flipped bit: an error; with a checksum that fits: an error or a manifest that says what the bytes say") {
  const Bytes bytes = serialize(some_manifest());
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    Bytes damaged = bytes;
    damaged[bit / 8] ^= std::byte{1} << (bit % 8);
    const ErrorCode code = code_of(damaged);
    REQUIRE((code == ErrorCode::corrupt || code == ErrorCode::truncated));
    const Bytes forged = sealed(damaged);
    const auto parsed = parse_manifest(forged);
    if (parsed && forged != bytes && bit / 8 != 10 && bit / 8 != 11) {
      REQUIRE(*parsed != some_manifest());
      REQUIRE(serialize(*parsed) == forged);
    }
  }
}

TEST_CASE("versions: a newer minor is read, another major refused") {
  const Bytes bytes = serialize(some_manifest());
  Bytes minor = bytes;
  set_number(minor, 10, 9, 2);
  CHECK(parse_manifest(sealed(minor)).value() == some_manifest());

  Bytes major = bytes;
  set_number(major, 8, 2, 2);
  const auto refused = parse_manifest(sealed(major));
  REQUIRE(!refused);
  CHECK(refused.error().code == ErrorCode::unsupported_version);
  CHECK(refused.error().message.find("2.0") != std::string::npos);

  // A section that this version does not know, behind all others.
  Bytes extended(bytes.begin(), bytes.end() - sizeof(Checksum));
  extended.resize(extended.size() + 12 + 5 + sizeof(Checksum));
  const std::size_t at = bytes.size() - sizeof(Checksum);
  set_number(extended, at, 99, 4);
  set_number(extended, at + 4, 5, 8);
  CHECK(parse_manifest(sealed(extended)).value() == some_manifest());
  set_number(extended, at + 4, 6, 8);
  CHECK(code_of(sealed(extended)) == ErrorCode::corrupt);
}

TEST_CASE("what was seen of attention is a section, there only when there is any") {
  const auto check = [](std::vector<std::byte> Manifest::*seen, std::uint32_t id, std::byte minor) {
    Manifest manifest = some_manifest();
    CHECK(serialize(manifest)[10] == std::byte{0});
    manifest.*seen = some_bytes(100, 3);
    const Bytes bytes = serialize(manifest);
    CHECK(bytes[10] == minor);
    CHECK(parse_manifest(bytes).value() == manifest);
    ManifestLimits limits;
    limits.statistics = 99;
    CHECK(parse_manifest(bytes, limits).error().code == ErrorCode::too_large);
    const Place place = section(bytes, id);
    CHECK(place.end - place.begin == 100);
  };
  check(&Manifest::statistics, 9, std::byte{1});
  check(&Manifest::row_attention, 12, std::byte{3});
}

TEST_CASE("what decoding needs of a plan is a section of version 1.2, there only where it says something") {
  Manifest manifest = some_manifest();
  CHECK(serialize(manifest)[10] == std::byte{0});
  SavePlanRecord& plan = manifest.plans.front();
  for (const SavePlanRecord& said :
       {SavePlanRecord{.profile = "0123"}, SavePlanRecord{.measured_step = -7}, SavePlanRecord{.measured_step = 0},
        SavePlanRecord{.coders = {"acme.fp8.1", ""}}, SavePlanRecord{.codec = "profile 0123"},
        SavePlanRecord{.settings = "measured step 3"}}) {
    plan = said;
    const Bytes bytes = serialize(manifest);
    CHECK(bytes[10] == std::byte{2});
    CHECK(parse_manifest(bytes).value() == manifest);
  }
  // What versions before said in texts is written as they wrote it.
  plan = {.codec = "profile 0123", .settings = "measured step -7", .profile = "0123", .measured_step = -7};
  CHECK(serialize(manifest)[10] == std::byte{0});
  CHECK(parse_manifest(serialize(manifest)).value() == manifest);
}

TEST_CASE("texts of versions before 1.2 are read as what they meant, and as nothing else") {
  Manifest manifest = some_manifest();
  for (const char* settings : {"", "pairs 1+2", "measured step", "measured step x", "measured step 4000000000",
                               "measured step 200", "measured step 3 or so"}) {
    manifest.plans.front() = {"krul", "int8", settings};
    CHECK(serialize(manifest)[10] == std::byte{0});
    CHECK(parse_manifest(serialize(manifest)).value() == manifest);
  }
}

TEST_CASE("a damaged section of codings is refused") {
  Manifest manifest = some_manifest();
  manifest.plans.resize(1);
  for (ChunkRecord& chunk : manifest.chunks) chunk.plan = 0;
  manifest.plans.front() = {.coders = {"acme.fp8.1"}};
  const Bytes bytes = serialize(manifest);
  const Place place = section(bytes, 10);
  const auto with = [&](std::size_t at, std::uint64_t value, std::size_t count) {
    Bytes changed = bytes;
    set_number(changed, place.begin + at, value, count);
    return sealed(changed);
  };
  CHECK(code_of(with(4, 2, 1)) == ErrorCode::corrupt);         // neither there nor missing
  CHECK(code_of(with(5, 1, 1)) == ErrorCode::corrupt);         // missing, and 1
  CHECK(code_of(with(6, 129, 4)) == ErrorCode::corrupt);       // more coders than numbers
  CHECK(code_of(with(6, 2, 4)) == ErrorCode::corrupt);         // one more than there are
  CHECK(code_of(with(10, 1 << 20, 4)) == ErrorCode::corrupt);  // a longer name than there is
  manifest.plans.front().coders.assign(129, "a");
  CHECK(validate(manifest).error().code == ErrorCode::corrupt);
  manifest.plans.front().coders.assign(1, std::string(70000, 'a'));
  CHECK(validate(manifest).error().code == ErrorCode::too_large);
}

TEST_CASE("what is borrowed is a section of version 1.4, there only where something is") {
  Manifest manifest = some_manifest();
  REQUIRE(manifest.objects.size() == 2);
  for (std::string& object : manifest.objects) object = test::folder_a + "/" + object;
  manifest.objects[1][0] = 'b';
  const Bytes bytes = serialize(manifest);
  CHECK(bytes[10] == std::byte{4});
  CHECK(parse_manifest(bytes).value() == manifest);
  const Place place = section(bytes, 13);
  REQUIRE(place.end - place.begin == 2 * 36);
  const auto with = [&](std::size_t at, std::uint64_t value, std::size_t count) {
    Bytes changed = bytes;
    set_number(changed, place.begin + at, value, count);
    return sealed(changed);
  };
  CHECK(code_of(with(0, 2, 4)) == ErrorCode::corrupt);    // an object that is not named
  CHECK(code_of(with(0, 1, 4)) == ErrorCode::corrupt);    // one that is borrowed twice
  CHECK(code_of(with(4, 'A', 1)) == ErrorCode::corrupt);  // no folder
}

TEST_CASE("a segment's name that holds a folder is refused") {
  Manifest manifest = some_manifest();
  const std::string key = test::folder_a + "/segment-1";
  manifest.objects[0] = std::string(key.size(), 'a').replace(0, 8, "segment-");
  Bytes bytes = serialize(manifest);
  const Place place = section(bytes, 5);
  const auto name = std::as_bytes(std::span(key));
  std::copy(name.begin(), name.end(), bytes.begin() + static_cast<std::ptrdiff_t>(place.begin + 8));
  CHECK(code_of(sealed(bytes)) == ErrorCode::corrupt);
}

TEST_CASE("what the tokens mean is a section of version 1.2, there only when it is known") {
  Manifest manifest = some_manifest();
  manifest.texts = "0123456789abcdef";
  for (const bool beside_statistics : {false, true}) {
    if (beside_statistics) manifest.statistics = some_bytes(100, 3);
    const Bytes bytes = serialize(manifest);
    CHECK(bytes[10] == std::byte{2});
    CHECK(parse_manifest(bytes).value() == manifest);
  }
  manifest.texts.assign(ManifestLimits{}.text + 1, 'x');
  CHECK(validate(manifest).error().code == ErrorCode::too_large);
}

TEST_CASE("layers that share a chunk must agree about it") {
  Manifest manifest = some_manifest();
  manifest.chunks[2] = manifest.chunks[0];  // [layer 1, block 0] is [layer 0, block 0]
  REQUIRE(validate(manifest));
  CHECK(parse_manifest(serialize(manifest)).value() == manifest);
  manifest.chunks[2].bytes -= 1;
  const Status status = validate(manifest);
  REQUIRE(!status);
  CHECK(status.error().code == ErrorCode::corrupt);
}

TEST_CASE("sections that are missing, twice there or out of order") {
  const Bytes bytes = serialize(some_manifest());
  for (std::uint32_t id = 1; id <= 8; ++id) {
    const Place place = section(bytes, id);
    Bytes without = bytes;
    without.erase(without.begin() + static_cast<std::ptrdiff_t>(place.header),
                  without.begin() + static_cast<std::ptrdiff_t>(place.end));
    CHECK(code_of(sealed(without)) == ErrorCode::corrupt);
    Bytes twice = bytes;
    twice.insert(twice.begin() + static_cast<std::ptrdiff_t>(place.end),
                 bytes.begin() + static_cast<std::ptrdiff_t>(place.header),
                 bytes.begin() + static_cast<std::ptrdiff_t>(place.end));
    CHECK(code_of(sealed(twice)) == ErrorCode::corrupt);
    Bytes renamed = bytes;
    set_number(renamed, place.header, 99, 4);
    CHECK(code_of(sealed(renamed)) == ErrorCode::corrupt);
  }
  CHECK(code_of(sealed(Bytes(bytes.begin(), bytes.begin() + 36))) == ErrorCode::corrupt);
}

TEST_CASE("absurd counts are refused before anything is allocated for them") {
  const Bytes bytes = serialize(some_manifest());
  const auto with = [&](std::uint32_t id, std::size_t offset, std::uint64_t value, std::size_t count) {
    Bytes changed = bytes;
    set_number(changed, section(bytes, id).begin + offset, value, count);
    return code_of(sealed(changed));
  };
  for (const std::uint64_t huge : {std::uint64_t{1} << 24, std::uint64_t{1} << 31, std::uint64_t{UINT32_MAX}}) {
    CHECK(with(3, 0, huge, 4) == ErrorCode::corrupt);     // length of a text
    CHECK(with(5, 0, huge, 4) == ErrorCode::too_large);   // objects
    CHECK(with(5, 4, huge, 4) == ErrorCode::corrupt);     // length of an object's name
    CHECK(with(6, 0, huge, 4) == ErrorCode::corrupt);     // plans
    CHECK(with(2, 16, huge, 4) == ErrorCode::too_large);  // layers
  }
  CHECK(with(5, 0, 65'536, 4) == ErrorCode::corrupt);  // as many as are allowed, but they are not there
  CHECK(with(2, 16, 4096, 4) == ErrorCode::corrupt);
  CHECK(with(2, 16, 0, 4) == ErrorCode::corrupt);
  CHECK(with(2, 20, 0, 4) == ErrorCode::corrupt);  // tokens of a block
  CHECK(with(2, 20, 1, 4) == ErrorCode::corrupt);
  CHECK(with(2, 8, UINT64_MAX, 8) == ErrorCode::too_large);  // rows
  CHECK(with(2, 8, 1 << 24, 8) == ErrorCode::corrupt);
  for (std::uint32_t id = 1; id <= 8; ++id)
    for (const std::uint64_t length : {std::uint64_t{1} << 20, std::uint64_t{UINT64_MAX}, UINT64_MAX - 11}) {
      Bytes changed = bytes;
      set_number(changed, section(bytes, id).header + 4, length, 8);
      CHECK(code_of(sealed(changed)) == ErrorCode::corrupt);
    }
  Bytes changed = bytes;
  set_number(changed, 12, UINT64_MAX, 8);
  CHECK(code_of(changed) == ErrorCode::truncated);
  CHECK(parse_manifest(bytes, {.bytes = 100}).error().code == ErrorCode::too_large);
  CHECK(parse_manifest(bytes, {.tokens = 6}).error().code == ErrorCode::too_large);
  CHECK(parse_manifest(bytes, {.layers = 1}).error().code == ErrorCode::too_large);
  CHECK(parse_manifest(bytes, {.objects = 1}).error().code == ErrorCode::too_large);
  CHECK(parse_manifest(bytes, {.text = 8}).error().code == ErrorCode::too_large);
}

TEST_CASE("manifests whose fields do not fit together are neither written nor read") {
  const std::vector<std::pair<const char*, std::function<void(Manifest&)>>> changes = {
      {"empty id", [](Manifest& m) { m.conversation.clear(); }},
      {"long id", [](Manifest& m) { m.conversation.assign(4097, 'x'); }},
      {"negative token", [](Manifest& m) { m.tokens[2] = -1; }},
      {"more rows than tokens", [](Manifest& m) { m.tokens.resize(5); }},
      {"no layers", [](Manifest& m) { m.layers = 0; }},
      {"block of 0", [](Manifest& m) { m.block = 0; }},
      {"chunk missing", [](Manifest& m) { m.chunks.pop_back(); }},
      {"object out of range", [](Manifest& m) { m.chunks[0].object = 2; }},
      {"plan out of range", [](Manifest& m) { m.chunks[0].plan = 1; }},
      {"offset out of range", [](Manifest& m) { m.chunks[0].offset = UINT64_MAX; }},
      {"unstored chunk with an offset", [](Manifest& m) { m.chunks[0] = {.offset = 1}; }},
      {"unstored chunk with a hash", [](Manifest& m) { m.chunks[0].bytes = 0; }},
      {"hostile name", [](Manifest& m) { m.objects[0] = "../../etc/passwd"; }},
      {"name of a manifest", [](Manifest& m) { m.objects[0] = "manifest-a"; }},
      {"empty name", [](Manifest& m) { m.objects[0].clear(); }},
      {"same name twice", [](Manifest& m) { m.objects[0] = m.objects[1]; }},
      {"long text", [](Manifest& m) { m.identity.weights.assign(65'537, 'x'); }},
      {"too many plans", [](Manifest& m) { m.plans.resize(257); }},
  };
  for (const auto& entry : changes) {
    CAPTURE(entry.first);
    Manifest manifest = some_manifest();
    entry.second(manifest);
    CHECK(!validate(manifest));
    CHECK_THROWS_AS((void)serialize(manifest), PreconditionError);
  }
  // The reader does not rely on the writer: a hostile name with a checksum that fits.
  Bytes bytes = serialize(some_manifest());
  bytes[section(bytes, 5).begin + 8] = std::byte{'/'};
  CHECK(code_of(sealed(bytes)) == ErrorCode::corrupt);
}

TEST_CASE("identity: a saved manifest tells each field that must match, and only those") {
  const Manifest saved = parse_manifest(serialize(some_manifest())).value();
  CHECK(differences(saved.identity, some_manifest().identity).empty());
  const std::vector<std::pair<std::string_view, std::string Identity::*>> must_match = {
      {"architecture", &Identity::architecture},
      {"weights", &Identity::weights},
      {"tokenizer", &Identity::tokenizer},
      {"geometry", &Identity::geometry},
      {"profile", &Identity::profile}};
  for (const auto& [name, field] : must_match) {
    Identity present = saved.identity;
    present.*field += "x";
    const auto found = differences(saved.identity, present);
    REQUIRE(found.size() == 1);
    CHECK(found[0].field == name);
    CHECK(found[0].saved + "x" == found[0].present);
  }
  for (const auto field : {&Identity::kernels, &Identity::processor, &Identity::threads}) {
    Identity present = saved.identity;
    present.*field += "x";
    CHECK(differences(saved.identity, present).empty());
  }
}

TEST_CASE("objects that no chunk refers to are forgotten") {
  Manifest manifest = some_manifest();
  const auto name_of = [&](const ChunkRecord& chunk) { return manifest.objects[chunk.object]; };
  manifest.objects.insert(manifest.objects.begin() + 1, "segment-6-unused");
  manifest.chunks[1].object = manifest.chunks[3].object = 2;
  const std::string first = name_of(manifest.chunks[0]), second = name_of(manifest.chunks[1]);
  drop_unused_objects(manifest);
  CHECK(manifest.objects.size() == 2);
  CHECK(name_of(manifest.chunks[0]) == first);
  CHECK(name_of(manifest.chunks[1]) == second);
  CHECK(validate(manifest));
  manifest.chunks[0].object = 2;
  CHECK_THROWS_AS(drop_unused_objects(manifest), PreconditionError);
}

TEST_CASE("there is always room for one more plan") {
  Manifest manifest = some_manifest();
  const auto plan = [](int number) { return SavePlanRecord{"krul", "int8", std::to_string(number)}; };
  for (int i = 0; i < 300; ++i) {
    const std::uint8_t index = enter_plan(manifest, plan(i));
    CHECK(manifest.plans.at(index) == plan(i));
    CHECK(enter_plan(manifest, plan(i)) == index);
    REQUIRE(validate(manifest));
  }
  CHECK(manifest.plans.at(manifest.chunks[0].plan) == some_manifest().plans[0]);

  // With 256 that are needed, one of the same codec stands for it; without one that is the caller's mistake.
  manifest.plans.clear();
  while (manifest.plans.size() < 256) manifest.plans.push_back(plan(static_cast<int>(manifest.plans.size())));
  manifest.block = 1;
  manifest.layers = 256;
  manifest.rows = 1;
  manifest.chunks.assign(256, manifest.chunks[0]);
  for (std::size_t i = 0; i < 256; ++i) manifest.chunks[i].plan = static_cast<std::uint8_t>(i);
  CHECK(manifest.plans.at(enter_plan(manifest, plan(1000))).codec == "int8");
  CHECK(manifest.plans.size() == 256);
  CHECK_THROWS_AS((void)enter_plan(manifest, {"krul", "another", ""}), PreconditionError);
}

TEST_CASE("asking for a chunk that is not there is the caller's mistake") {
  const Manifest manifest = some_manifest();
  CHECK(manifest.blocks() == 2);
  CHECK(manifest.chunk(1, 1) == manifest.chunks[3]);
  CHECK_THROWS_AS((void)manifest.chunk(2, 0), PreconditionError);
  CHECK_THROWS_AS((void)manifest.chunk(0, 2), PreconditionError);
}
