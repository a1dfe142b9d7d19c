#include "krul/eval/restore_bench.hpp"
#include "krul/compress/int8_codec.hpp"

#include <doctest/doctest.h>

#include <set>

#include "krul/store/memory_store.hpp"
#include "krul/strategy/catalogue/all.hpp"
#include "support/ticking_clock.hpp"
#include "support/toy_conversation.hpp"

namespace krul {
namespace {

using eval::BenchedLink;
using eval::Returning;
using test::TickingClock;

struct Scene {
  toy::Backend model{ElementType::f32};
  AnyStore store = MemoryStore();
  std::vector<Returning> returning;

  Scene() {
    const auto tokens = test::toy_tokens(120, 3);
    const auto history = std::span(tokens).first(100);
    const auto exact = eval::prefill_exact(model, history, 0);
    for (const AnyStrategy& strategy : {AnyStrategy(strategy::recompute()), AnyStrategy(strategy::load(Int8Codec{}))}) {
      returning.push_back(
          eval::save_returning(model, store, exact, history, {strategy, strategy.name(), Costs{}}).value());
      returning.back().tokens = tokens;
    }
  }
  static eval::PairedRounds<TickingClock, eval::QuietMachine> rounds() {
    return {TickingClock{}, eval::QuietMachine{}, {.clean_rounds = 3, .warm_up_rounds = 0, .least_round_s = 0}};
  }
};

TEST_CASE("conversations are restored over a link in rounds, and each becomes a row") {
  Scene scene;
  std::multiset<std::string> read;
  BenchedLink link{"memory", scene.store, [&](const Returning& each) { read.insert(each.id); }};
  std::vector<std::size_t> after;
  auto rounds = Scene::rounds();
  const auto report =
      eval::bench_restores(scene.model, link, scene.returning, rounds, [&](std::size_t i, auto& restored) {
        after.push_back(i);
        CHECK(restored.conversation.tokens().size() == 120);
      });
  REQUIRE(report);
  CHECK(read.count("load-int8") == 3);
  CHECK(after.size() == 6);
  const auto rows = eval::restore_rows(*report, 1);
  REQUIRE(rows.size() == 2);
  CHECK(rows[0].strategy == "recompute");
  CHECK(rows[0].last.bytes == 0);
  CHECK(rows[1].last.bytes > 0);
  CHECK(rows[1].ratio.median == 1);
  for (const auto& row : rows) {
    CHECK(row.first_token_s > 0);
    CHECK(row.restore_s > 0);
  }
  eval::RestoreSummary summary;
  eval::RestoreRow row;
  row.first_token_s = 2;
  row.predicted_s = 1;
  row.bubble_s = 0.5;
  summary.add(row);
  row.predicted_s = row.bubble_s = 0;  // nobody planned
  summary.add(row);
  CHECK(summary.prediction_errors == std::vector<double>{0.5});
  CHECK(summary.bubble_shares == std::vector<double>{0.25, 0});
  CHECK_THROWS_AS(static_cast<void>(eval::restore_rows(*report, 2)), PreconditionError);
}

TEST_CASE("what a restore fails with ends the rounds") {
  Scene scene;
  scene.returning[1].tokens = test::toy_tokens(scene.model.geometry().context + 1);
  BenchedLink link{"memory", scene.store};
  auto rounds = Scene::rounds();
  const auto report = eval::bench_restores(scene.model, link, scene.returning, rounds, [](std::size_t, const auto&) {});
  REQUIRE_FALSE(report);
  CHECK(report.error().code == ErrorCode::too_large);
}

TEST_CASE("a link of a stated rate is a throttled store, the disk is cooled, and all others are the store itself") {
  Scene scene;
  int cooled = 0;
  const auto cool = [&](const Returning&) { ++cooled; };
  const auto link = [&](const char* name) {
    return eval::benched_link(eval::parse_link(name).value(), scene.store, cool);
  };
  link("disk").before_read(scene.returning[0]);
  CHECK(cooled == 1);
  CHECK_FALSE(link("memory").before_read);
  auto fast = link("1000GB/s");
  fast.before_read(scene.returning[0]);
  CHECK(cooled == 1);
  CHECK(fast.store.list("").value() == scene.store.list("").value());
  CHECK_THROWS_AS(static_cast<void>(link("1.3x")), PreconditionError);
}

}  // namespace
}  // namespace krul
