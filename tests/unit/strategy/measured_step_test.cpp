#include "krul/strategy/measured_step.hpp"

#include <doctest/doctest.h>

#include "support/toy_profile.hpp"

namespace krul {
namespace {

using test::toy_profile, test::toy_tokens;

/// A conversation of the toy model.
struct Talk {
  toy::Backend model{ElementType::f16};
  std::shared_ptr<const Profile> profile = toy_profile(model);
  std::vector<Token> tokens = toy_tokens(300, 3);
  toy::Backend::Cache cache = model.make_cache(tokens.size());
  Workers workers{2};

  Talk() {
    auto batch = model.make_batch();
    prefill(model, cache, batch, tokens, {});
  }
  [[nodiscard]] CodedConversation<toy::Backend::Cache> view() { return {cache, tokens, profile, workers}; }
};

}  // namespace

TEST_CASE("a copy without a profile is exact, one with a profile is what coding leaves") {
  Talk talk;
  const Geometry& geometry = talk.model.geometry();
  const TokenFeatures features(talk.model, talk.tokens);
  const RowsToCopy rows{.count = 150, .capacity = 200};
  const auto exact = coded_copy(talk.model, talk.cache, rows, {nullptr, {}, features}, talk.workers);
  const auto coded = coded_copy(talk.model, talk.cache, rows, {talk.profile, {}, features}, talk.workers);
  CHECK(exact.length() == 150);
  CHECK(coded.length() == 150);
  for (std::size_t layer = 0; layer < geometry.layers; ++layer) {
    const auto before = read_kv_rows(talk.cache, geometry, layer, {0, 150});
    CHECK(read_kv_rows(exact, geometry, layer, {0, 150}).keys == before.keys);
    CHECK(read_kv_rows(exact, geometry, layer, {0, 150}).values == before.values);
    CHECK(read_kv_rows(coded, geometry, layer, {0, 150}).keys != before.keys);
  }
  CHECK_THROWS_AS(
      (void)coded_copy(talk.model, talk.cache, {.count = 301, .capacity = 400}, {nullptr, {}, features}, talk.workers),
      PreconditionError);
}

TEST_CASE("what coding does to a conversation is measured on its last tokens") {
  Talk talk;
  const double divergence = coding_divergence(talk.model, talk.view(), 32);
  CHECK(divergence > 0);
  CHECK(divergence < 5e-4);  // the profile aims at 1e-4; a conversation may take a few times as much
  CHECK(measured_step(talk.model, talk.view(), {.kl = 1e-4, .usual_kl = 1e-4, .trust = 1}) ==
        step_for(coding_divergence(talk.model, talk.view(), 64), {.kl = 1e-4, .usual_kl = 1e-4, .trust = 1}));
  auto none = talk.view();
  none.profile = nullptr;
  CHECK_THROWS_AS((void)coding_divergence(talk.model, none, 32), PreconditionError);
  CHECK_THROWS_AS((void)coding_divergence(talk.model, talk.view(), 300), PreconditionError);
  CHECK_THROWS_AS((void)coding_divergence(talk.model, talk.view(), 0), PreconditionError);
}

TEST_CASE("a short conversation is not measured") {
  Talk talk;
  auto part = talk.view();
  part.tokens = part.tokens.first(least_measured_tokens - 1);
  CHECK_FALSE(measured_step(talk.model, part, {}));
}

TEST_CASE("the step follows what was measured as far as it is trusted") {
  const StepChoice choice{.kl = 0.01, .usual_kl = 0.01, .trust = 0.5, .least_share = 0};
  CHECK(step_for(0.01, choice).code == 0);
  CHECK(step_for(0.02, choice).code == -4);  // half of what would halve it
  CHECK(step_for(0.005, choice).code == 4);
  CHECK(step_for(0.04, {.kl = 0.01, .usual_kl = 0.01, .trust = 1}).code == -16);
  CHECK(step_for(0.04, {.kl = 0.01, .usual_kl = 0.01, .trust = 0, .least_share = 0}).code == 0);
  CHECK(step_for(0, choice) == choice.coarsest);
  CHECK(step_for(1e9, choice) == choice.finest);
}

TEST_CASE("what is far above the usual is believed") {
  const StepChoice choice{.kl = 0.01, .usual_kl = 0.01, .trust = 0.5, .least_share = 0.5};
  CHECK(step_for(0.04, choice).code == -8);   // half of the measured is as much as what is trusted of it
  CHECK(step_for(0.16, choice).code == -24);  // and more from there on
  CHECK(step_for(0.0025, choice).code == 8);  // what is far below is trusted as before
}

TEST_CASE("a measured step is remembered with the plan") {
  const StepScale own{-2};
  const SavePlanRecord plain{"krul", "int8"};
  const auto coded = [](std::optional<std::int8_t> step) {
    return SavePlanRecord{.profile = "0123", .measured_step = step};
  };
  const auto remembered = [&](std::vector<SavePlanRecord> plans) { return remembered_step(plans, own); };
  CHECK_FALSE(remembered({}));
  CHECK_FALSE(remembered({plain}));
  CHECK(remembered({plain, coded(-7)})->code == -7);
  CHECK(remembered({plain, coded(-7), coded(3)})->code == 3);
  // Rows that a profile coded without a measured step no longer tell either.
  CHECK(remembered({coded(std::nullopt)}) == own);
  CHECK(remembered({coded(std::nullopt), coded(5), coded(std::nullopt)})->code == 5);
}

}  // namespace krul
