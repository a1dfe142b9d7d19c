#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <krul/core/identity.hpp>

using krul::Identity;

namespace {

const Identity saved{.architecture = "llama",
                     .weights = "12ab",
                     .tokenizer = "77",
                     .geometry = "L=2",
                     .profile = "9f",
                     .kernels = "eigen f32",
                     .processor = "zen4",
                     .threads = "2"};

struct Field {
  const char* name;
  std::string Identity::*member;
};
const Field must_match[] = {{"architecture", &Identity::architecture},
                            {"weights", &Identity::weights},
                            {"tokenizer", &Identity::tokenizer},
                            {"geometry", &Identity::geometry},
                            {"profile", &Identity::profile}};
const Field recorded_only[] = {
    {"kernels", &Identity::kernels}, {"processor", &Identity::processor}, {"threads", &Identity::threads}};

}  // namespace

TEST_CASE("each field that must match is found, with both values, and no other") {
  for (const Field& field : must_match)
    for (const std::string value : {"", "other"}) {
      CAPTURE(field.name);
      Identity present = saved;
      present.*field.member = value;
      const auto found = krul::differences(saved, present);
      REQUIRE(found.size() == 1);
      CHECK(found[0].field == field.name);
      CHECK(found[0].saved == saved.*field.member);
      CHECK(found[0].present == value);
    }
}

TEST_CASE("fields that are only recorded may differ") {
  Identity present = saved;
  for (const auto& [name, member] : recorded_only) present.*member = "other";
  CHECK(krul::differences(saved, present).empty());
  CHECK(krul::differences(saved, saved).empty());
  CHECK_FALSE(saved == present);
}

TEST_CASE("weights may be named as they were before, where the saved name says any") {
  Identity present = saved;
  present.weights = "new";
  present.former_weights = saved.weights;
  CHECK(krul::differences(saved, present).empty());
  CHECK(krul::are_same_weights("new", present));
  CHECK_FALSE(krul::are_same_weights("34cd", present));
  present.former_weights.clear();
  CHECK(krul::differences(saved, present).size() == 1);
  CHECK_FALSE(krul::are_same_weights("", present));
}

TEST_CASE("differences are listed in one sentence, in the order of the fields") {
  Identity present = saved;
  for (const auto& [name, member] : must_match) present.*member = "x";
  CHECK(krul::differences(saved, present).size() == 5);
  present = saved;
  present.weights = "34cd";
  present.profile = "";
  CHECK(krul::describe(krul::differences(saved, present)) ==
        "weights (saved 12ab, here 34cd), profile (saved 9f, here )");
  CHECK(krul::describe(krul::differences(saved, saved)).empty());
}

TEST_CASE("a geometry's description names every size that makes saved rows mean something else") {
  const krul::Geometry geometry{.layers = 30,
                                .query_heads = 9,
                                .kv_heads = 3,
                                .head_dim = 64,
                                .hidden = 576,
                                .vocabulary = 49152,
                                .context = 8192,
                                .rotary = {.dimensions = 64, .base = 100000}};
  CHECK(krul::describe(geometry) ==
        "L=30 H=9 G=3 D=64 hidden=576 vocabulary=49152 rotary=interleaved/64/100000 cache=f16");
  const auto changed = [&](auto change) {
    auto other = geometry;
    change(other);
    return krul::describe(other) != krul::describe(geometry);
  };
  CHECK(changed([](auto& g) { g.layers = 31; }));
  CHECK(changed([](auto& g) { g.query_heads = 3; }));
  CHECK(changed([](auto& g) { g.kv_heads = 9; }));
  CHECK(changed([](auto& g) { g.head_dim = 32; }));
  CHECK(changed([](auto& g) { g.hidden = 1; }));
  CHECK(changed([](auto& g) { g.vocabulary = 1; }));
  CHECK(changed([](auto& g) { g.cache_type = krul::ElementType::bf16; }));
  CHECK(changed([](auto& g) { g.rotary.pairs = krul::RotaryPairs::halves; }));
  CHECK(changed([](auto& g) { g.rotary.dimensions = 32; }));
  CHECK(changed([](auto& g) { g.rotary.base = std::nextafter(100000.0, 0.0); }));
  CHECK_FALSE(changed([](auto& g) { g.context = 16384; }));
}

TEST_CASE("the longest description fits") {
  krul::Geometry geometry{.layers = SIZE_MAX,
                          .query_heads = SIZE_MAX,
                          .kv_heads = SIZE_MAX,
                          .head_dim = SIZE_MAX,
                          .hidden = SIZE_MAX,
                          .vocabulary = SIZE_MAX,
                          .cache_type = krul::ElementType::bf16,
                          .rotary = {.dimensions = SIZE_MAX, .base = -1.2345678901234567e-300}};
  CHECK(krul::describe(geometry).ends_with("cache=bf16"));
}
