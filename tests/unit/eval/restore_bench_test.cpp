#include "krul/eval/restore_bench.hpp"
#include "krul/compress/float_codec.hpp"
#include "krul/compress/int8_codec.hpp"

#include <doctest/doctest.h>

#include <set>

#include "krul/store/memory_store.hpp"
#include "krul/strategy/catalogue/all.hpp"
#include "support/ticking_clock.hpp"
#include "support/toy_conversation.hpp"

namespace krul {
namespace {

using namespace std::chrono_literals;
using eval::BenchedLink;
using eval::Returning;
using test::TickingClock;

struct Scene {
  toy::Backend model{ElementType::f32};
  MemoryStore memory;
  AnyStore store = memory;
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

TEST_CASE("a conversation that stays open is not opened in its restore") {
  /// Reading a manifest takes a second, nothing else takes any time.
  struct SlowToOpen : MemoryStore {
    explicit SlowToOpen(MemoryStore store) : MemoryStore(std::move(store)) {}
    Status get(const std::string& key, std::uint64_t offset, std::span<std::byte> to) {
      if (is_manifest_name(key.substr(33))) clock.advance(1s);
      return MemoryStore::get(key, offset, to);
    }
    ManualClock clock;
  };
  Scene scene;
  const SlowToOpen slow(scene.memory);
  AnyStore store = slow;
  for (Returning& returning : scene.returning) {
    returning.costs =
        Costs{.link = {.bytes_per_s = 1e9, .open_s = 6}, .layer = {.project_row_s = 1, .finish_row_s = 1}};
    const auto opened = eval::restore_once(scene.model, store, returning, 1, slow.clock).value();
    CHECK(opened.figure.first_token_s >= 1);
    CHECK(opened.figure.report.opening_s == opened.figure.first_token_s);
    returning.stays_open = true;
    const auto open = eval::restore_once(scene.model, store, returning, 1, slow.clock).value();
    CHECK(open.figure.first_token_s == 0);
    CHECK(open.figure.report.opening_s == 0);
    CHECK(open.figure.report.predicted.opening_s == 3);
    CHECK(open.logits == opened.logits);
  }
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

TEST_CASE("a history saved under several strategies, each under an id of its own") {
  toy::Backend model{ElementType::f32};
  AnyStore store = MemoryStore();
  const auto tokens = test::toy_tokens(120, 3);
  eval::MachineCosts machine{.costs = {.link = {0, 1e8, 0}, .layer = {.project_row_s = 1e-5, .finish_row_s = 1e-5}},
                             .memory = {0, 1e9, 0}};
  eval::SharedHistory shared(model, {strategy::load(Int8Codec{}), strategy::krul()}, machine, tokens, 100);
  CHECK(shared.strategies().size() == 2);
  CHECK(shared.costs().memory.bytes_per_s == 1e9);
  const auto disk = eval::parse_link("disk").value(), rate = eval::parse_link("50MB/s").value();
  std::vector<std::string> begun;
  const auto saved = shared.save(store, "bench-", disk, rate, [&](const auto& each) { begun.push_back(each.name()); });
  REQUIRE(saved);
  CHECK(begun == std::vector<std::string>{"load-int8", "krul"});
  REQUIRE(saved->size() == 2);
  CHECK((*saved)[0].id == "bench-load-int8");
  CHECK((*saved)[1].id == "bench-krul-50MB/s");  // planned for its link
  for (const Returning& each : *saved) {
    CHECK(each.tokens == tokens);
    CHECK(each.costs->link.bytes_per_s == 5e7);
    CHECK(each.stored_bytes > 0);
    CHECK(eval::restore_once(model, store, each)->figure.report.matched == 100);
  }
  AnyStore full = MemoryStore(10);
  CHECK(shared.save(full, "bench-", disk, rate, [](const auto&) {}).error().code == ErrorCode::no_space);
}

TEST_CASE("the baseline is the one that is named, load-f16, or the first") {
  const std::vector<AnyStrategy> two = {strategy::krul(), strategy::load(F16Codec{})}, one = {strategy::krul()};
  CHECK(eval::baseline_among(two, "") == 1);
  CHECK(eval::baseline_among(two, "krul") == 0);
  CHECK(eval::baseline_among(one, "") == 0);
  CHECK(eval::baseline_among(two, "cake").error().code == ErrorCode::not_found);
  CHECK_THROWS_AS(static_cast<void>(eval::baseline_among({}, "")), PreconditionError);
}

}  // namespace
}  // namespace krul
