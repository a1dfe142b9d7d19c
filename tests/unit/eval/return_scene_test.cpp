#include "krul/eval/return_scene.hpp"

#include <doctest/doctest.h>

#include "krul/compress/exact_codec.hpp"
#include "krul/compress/int8_codec.hpp"
#include "krul/strategy/catalogue/all.hpp"
#include "support/temporary_directory.hpp"
#include "support/ticking_clock.hpp"
#include "support/toy_conversation.hpp"

namespace krul {
namespace {

using test::TickingClock;

TEST_CASE("what one scene has saved comes back in another, beside the run without any saving") {
  const test::TemporaryDirectory directory;
  const std::vector<AnyStrategy> strategies = {strategy::recompute(), strategy::load(ExactCodec{}),
                                               strategy::load(Int8Codec{})};
  const eval::ReturnScene<toy::Backend>::Parts parts{strategies, eval::parse_links("disk,1GB/s").value(), {}};
  const auto store = [&] { return FileStore::open(directory.path(), {.durability = Durability::none}).value(); };
  eval::ReturningText text{.id = "talk", .tokens = test::toy_tokens(120, 3), .history = 100};
  {
    toy::Backend model{ElementType::f32};
    eval::ReturnScene scene(model, store(), parts);
    const auto file = directory.path() / "text";
    REQUIRE(eval::write_returning(file, scene.save(std::move(text), 6).value()));
    text = eval::read_returning(file).value();
    CHECK(text.id == "talk");
    CHECK(text.tokens == test::toy_tokens(120, 3));
    CHECK(text.history == 100);
    CHECK(text.reference.logits.size() == 6 * model.geometry().vocabulary);
    std::filesystem::resize_file(file, std::filesystem::file_size(file) - 1);
    CHECK(eval::read_returning(file).error().code == ErrorCode::truncated);
    CHECK(eval::read_returning(directory.path() / "none").error().code == ErrorCode::not_found);
  }
  REQUIRE(text.reference.tokens.size() == 6);
  toy::Backend model{ElementType::f32};
  eval::ReturnScene scene(model, store(), parts);
  for (const eval::LinkName& link : scene.parts().links) {
    CAPTURE(link.text);
    eval::PairedRounds rounds(TickingClock{}, eval::QuietMachine{},
                              {.clean_rounds = 2, .warm_up_rounds = 0, .least_round_s = 0});
    std::size_t announced = 0;
    const auto found = scene.restore(text, link, rounds, [&](const eval::Returning&) { ++announced; });
    REQUIRE(found);
    CHECK(found->link.text == link.text);
    CHECK(found->rounds == 2);
    CHECK(announced == 2 * strategies.size());
    REQUIRE(found->rows.size() == strategies.size());
    for (std::size_t i = 0; i < strategies.size(); ++i) {
      const auto& [saved, restore, divergence] = found->rows[i];
      const std::string& strategy = restore.strategy;
      CAPTURE(strategy);
      CHECK(saved.strategy.name() == strategies[i].name());
      CHECK(saved.stored_bytes > 0);
      CHECK((restore.last.bytes > 0) == (i > 0));
      if (i < 2) {
        CHECK(divergence.kl == 0);
        CHECK_FALSE(divergence.first_difference);
      } else {
        CHECK(divergence.kl > 0);
      }
    }
  }
}

TEST_CASE("a scene needs strategies, links, and tokens on both sides of the end of the history") {
  const test::TemporaryDirectory directory;
  const auto store = FileStore::open(directory.path(), {.durability = Durability::none}).value();
  toy::Backend model{ElementType::f32};
  using Scene = eval::ReturnScene<toy::Backend>;
  const auto links = eval::parse_links("disk").value();
  CHECK_THROWS_AS(Scene(model, store, {{}, links, {}}), PreconditionError);
  CHECK_THROWS_AS(Scene(model, store, {{strategy::recompute()}, {}, {}}), PreconditionError);
  Scene scene(model, store, {{strategy::recompute()}, links, {}});
  const auto tokens = test::toy_tokens(20);
  CHECK_THROWS_AS(static_cast<void>(scene.save({.id = "x", .tokens = tokens, .history = 0}, 2)), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(scene.save({.id = "x", .tokens = tokens, .history = 20}, 2)), PreconditionError);
  eval::PairedRounds rounds(TickingClock{}, eval::QuietMachine{}, {.clean_rounds = 1});
  eval::ReturningText text{.id = "never saved", .tokens = tokens, .history = 10};
  CHECK_THROWS_AS(static_cast<void>(scene.restore(text, links[0], rounds)), PreconditionError);
  text.reference = {{1}, std::vector<float>(model.geometry().vocabulary)};
  const auto missing = scene.restore(text, links[0], rounds);
  REQUIRE_FALSE(missing);
  CHECK(missing.error().code == ErrorCode::not_found);
}

}  // namespace
}  // namespace krul
