#include "krul/eval/pass_phases.hpp"

#include <doctest/doctest.h>

namespace krul::eval {
namespace {

PassShape small_shape() {
  Geometry geometry{};
  geometry.layers = 2;
  geometry.hidden = 8;
  geometry.query_heads = 2;
  geometry.kv_heads = 1;
  geometry.head_dim = 4;
  geometry.vocabulary = 10;
  geometry.cache_type = ElementType::f16;
  // A layer has 8 * (8 + 2 * 4) weights before attention and 8 * (8 + 3 * 16) after it: 576, of a byte each.
  return {geometry, 16, 2 * 576, 160};
}

TEST_CASE("each part of a pass has the work of its matrices, and is bound by what is slower") {
  PassFigures figures;
  figures.embed.seconds = 1;
  figures.project = {.seconds = 2, .calls = 2, .rows = 6};
  figures.attend = {.seconds = 3, .calls = 2, .rows = 6, .keys = 12, .all_keys = 6};
  figures.finish = {.seconds = 4, .calls = 2, .rows = 6};
  figures.logits = {.seconds = 5, .calls = 1, .rows = 1};
  const auto phases =
      phases_of(small_shape(), figures, {.matrices = 256, .output = 1e9, .attention = 32, .reading = 64});
  REQUIRE(phases.size() == 6);
  CHECK(phases[0].bound_s() == 0);
  CHECK(std::string(phases[0].bound_by()).empty());
  CHECK(phases[1].operations == 2 * 128 * 6);
  CHECK(phases[1].bytes == 2 * 128);
  CHECK(phases[1].arithmetic_s == 6);  // 1536 operations at 256 a second, against 256 bytes at 64
  CHECK(phases[1].reading_s == 0);
  CHECK(phases[1].reached() == 3);
  CHECK(phases[2].operations == 4 * 8 * 12);
  CHECK(phases[2].bytes == 2 * 8 * 6);
  CHECK(phases[2].arithmetic_s == 12);
  CHECK(phases[3].operations == 2 * 448 * 6);
  CHECK(phases[4].bytes == 160);
  CHECK(phases[4].reading_s == 2.5);
  CHECK(std::string(phases[4].bound_by()) == "reading");
  CHECK(phases[5].name == "all");
  CHECK(phases[5].taken_s == 15);
  CHECK(phases[5].arithmetic_s == 6 + 12 + 21);
  CHECK(phases[5].reading_s == 2.5);
  CHECK(std::string(phases[5].bound_by()) == "arithmetic");
}

TEST_CASE("the typical pass has the median of each step by itself") {
  RoundsReport<PassFigures> report{.names = {"pass"}, .rounds = {}};
  for (const double taken : {3.0, 1.0, 2.0}) {
    PassFigures figures;
    figures.project = {.seconds = taken, .rows = 7};
    figures.finish.seconds = 10 - taken;
    report.rounds.push_back({0, {{figures}}});
  }
  const PassFigures typical = typical_pass(report);
  CHECK(typical.project.seconds == 2);
  CHECK(typical.project.rows == 7);
  CHECK(typical.finish.seconds == 8);
}

}  // namespace
}  // namespace krul::eval
