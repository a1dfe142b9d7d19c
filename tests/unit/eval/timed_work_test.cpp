#include "krul/eval/timed_work.hpp"
#include "krul/compress/exact_codec.hpp"

#include <doctest/doctest.h>

#include "krul/store/memory_store.hpp"
#include "krul/strategy/catalogue/all.hpp"
#include "support/temporary_directory.hpp"
#include "support/ticking_clock.hpp"
#include "support/toy_conversation.hpp"

namespace krul::eval {
namespace {

TEST_CASE("the made-up text is the same for everyone") {
  CHECK(made_up_text({0, 3}, 49152) == std::vector<Token>{100, 8019, 15938});
  CHECK(made_up_text({2, 4}, 49152) == std::vector<Token>{15938, 23857});
  CHECK(made_up_text({1, 2}, 150) == std::vector<Token>{100 + 7919 % 50});
  CHECK_THROWS_AS(static_cast<void>(made_up_text({0, 1}, 100)), PreconditionError);
}

toy::Backend model_of_200_words() {
  Geometry geometry = toy::Backend(ElementType::f32).geometry();
  geometry.vocabulary = 200;
  return toy::Backend(geometry);
}

TEST_CASE("each step begins anew, takes some time and says what it found") {
  toy::Backend model = model_of_200_words();
  TimedWork work(model, 64, test::TickingClock{});
  CHECK(work.room() == 64);
  CHECK(work.prefill(40).value() > 0);
  CHECK(work.prefill(40).value() > 0);
  CHECK(work.decode(30, 4).value() > 0);
  CHECK(work.decode(0, 1).value() > 0);

  const auto computed = work.recompute(40, 8);
  REQUIRE(computed);
  CHECK_FALSE(computed->report.has_value());
  CHECK(computed->first == greedy(logits_of(model, std::span<const Token>(made_up_text({0, 48}, 200)), 1)));

  AnyStore store = MemoryStore();
  const auto exact = strategy::load(ExactCodec{});
  const auto saved = work.save(store, 40, {.id = "peer", .plan = SavePlan::separate(ExactCodec{})});
  REQUIRE(saved);
  CHECK(saved->seconds > 0);
  CHECK(saved->bytes > 0);
  const auto restored = work.restore(store, {.strategy = exact, .id = "peer", .tokens = {}}, 40, 8);
  REQUIRE(restored);
  CHECK(restored->seconds > 0);
  CHECK(restored->first == computed->first);
  CHECK(restored->report->bytes > 0);
  for (const std::size_t other : {39, 41}) {
    const auto none = work.restore(store, {.strategy = exact, .id = "peer", .tokens = {}}, other, 8);
    REQUIRE_FALSE(none);
    CHECK(none.error().code == ErrorCode::not_found);
  }
}

TEST_CASE("what is saved in a folder comes back from it") {
  toy::Backend model = model_of_200_words();
  TimedWork work(model, 64, test::TickingClock{});
  const test::TemporaryDirectory folder;
  const std::filesystem::path place = folder.path() / "saved";
  const Returning saved{.strategy = strategy::load(ExactCodec{}), .id = "peer", .tokens = {}};
  CHECK_FALSE(work.restore(place, saved, 40, 8));
  REQUIRE(work.save(place, 40, {.id = "peer", .plan = SavePlan::separate(ExactCodec{})}));
  const auto restored = work.restore(place, saved, 40, 8);
  REQUIRE(restored);
  CHECK(restored->first == work.recompute(40, 8)->first);
}

TEST_CASE("a greedy text with the two best logits of each step, and all logits") {
  toy::Backend model = model_of_200_words();
  TimedWork work(model, 32, test::TickingClock{});
  const auto prompt = made_up_text({0, 10}, 200);
  const auto text = work.greedy(prompt, 5);
  REQUIRE(text);
  CHECK(text->seconds > 0);
  CHECK(text->best.size() == 5);
  for (const auto& [first, second] : text->best) CHECK(first >= second);
  auto cache = model.make_cache(32);
  CHECK(text->tokens == go_on_from(model, cache, prompt, 5, GreedyChoice({})));
  std::vector<float> logits(10 * 200);
  CHECK(work.all_logits(prompt, logits).value() > 0);
  CHECK(logits == logits_of(model, std::span<const Token>(prompt), 10));
}

TEST_CASE("no tokens, and more than there is room for, are refused") {
  toy::Backend model = model_of_200_words();
  TimedWork work(model, 8, test::TickingClock{});
  std::vector<float> logits(200);
  CHECK(work.prefill(0).error().code == ErrorCode::invalid_argument);
  CHECK(work.greedy({}, 1).error().code == ErrorCode::invalid_argument);
  CHECK(work.all_logits({}, logits).error().code == ErrorCode::invalid_argument);
  CHECK(work.prefill(9).error().code == ErrorCode::too_large);
  CHECK(work.decode(6, 3).error().code == ErrorCode::too_large);
  CHECK(work.recompute(4, 5).error().code == ErrorCode::too_large);
  AnyStore store = MemoryStore();
  CHECK(work.save(store, 9, {.id = "peer", .plan = {}}).error().code == ErrorCode::too_large);
  CHECK(work.prefill(8).has_value());
}

}  // namespace
}  // namespace krul::eval
