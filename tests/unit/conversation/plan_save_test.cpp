#include "krul/conversation/plan_save.hpp"

#include <doctest/doctest.h>

#include <cmath>

#include "krul/similarity/tokenwise_similarity_estimator.hpp"
#include "support/toy_conversation.hpp"
#include "support/toy_profile.hpp"

namespace krul {
namespace {

using test::run_through;
using test::toy_profile;
using test::toy_tokens;

constexpr std::size_t history = 256;

struct Situation {
  toy::Backend model{ElementType::f16};
  std::vector<Token> tokens = toy_tokens(history);
  toy::Backend::Cache cache = model.make_cache(512);
  AttentionStatistics statistics;
  std::vector<double> unpredictability = {0, 4, 3, 2, 4, 0, 1, 9, 3, 1, 0, 9, 2, 9, 9, 0};
  Costs costs{.link = {.bytes_per_s = 1e5}, .layer = {.project_row_s = 1e-3, .finish_row_s = 1e-3}};

  Situation() {
    auto batch = model.make_batch();
    TokenwiseSimilarityEstimator<> estimator(model.geometry());
    std::vector<float> logits(model.geometry().vocabulary);
    observed_prefill(model, cache, batch, tokens, logits, estimator);
    statistics = estimator.statistics();
  }

  [[nodiscard]] SaveSituation of(const Strategy& strategy) const {
    return {.geometry = model.geometry(),
            .tokens = history,
            .block = 16,
            .block_bytes = measure_block_bytes(cache, model.geometry(), codings_of(strategy).value(), 16),
            .statistics = statistics,
            .unpredictability = unpredictability,
            .costs = costs};
  }
  [[nodiscard]] SavePlan plan(std::string_view name) const {
    const Strategy strategy = strategy_named(name).value();
    return plan_save(strategy, of(strategy)).value();
  }
};

TEST_CASE("every strategy has a plan that fits the model") {
  const Situation situation;
  for (const Strategy& strategy : strategies()) {
    CAPTURE(strategy.name);
    const SavePlan plan = situation.plan(strategy.name);
    CHECK_NOTHROW(expects_valid(plan, 4));
    CHECK(plan.strategy == strategy.name);
    CHECK((plan.pairs.size() == 1) == (strategy.pairs != PairChoice::none));  // a quarter of four layers
    const bool leaves_out = strategy.left_out != LeftOut::nothing;
    if (strategy.stored_as == StoredAs::keys_and_values) CHECK(!plan.left_out.empty() == leaves_out);
  }
}

TEST_CASE("strategies that do not weigh bytes plan without them") {
  const Situation situation;
  for (const Strategy& strategy : strategies()) {
    CAPTURE(strategy.name);
    SaveSituation blind = situation.of(strategy);
    blind.block_bytes = {};
    if (!strategy.weighs_bytes()) CHECK(plan_save(strategy, blind)->left_out == situation.plan(strategy.name).left_out);
  }
  CHECK(strategy_named("krul")->weighs_bytes());
  CHECK(strategy_named("partial")->leaves_front());
  CHECK(!strategy_named("krul-compact")->weighs_bytes());
}

TEST_CASE("what does not plan for costs is saved alike for every link") {
  Situation situation;
  for (const Strategy& strategy : strategies()) {
    CAPTURE(strategy.name);
    situation.costs.link.bytes_per_s = 1e5;
    const SavePlan slow = situation.plan(strategy.name);
    situation.costs.link.bytes_per_s = 1e12;
    const SavePlan fast = situation.plan(strategy.name);
    const bool alike = slow.left_out == fast.left_out && slow.hidden_states == fast.hidden_states &&
                       slow.pairs == fast.pairs && slow.codec_name() == fast.codec_name();
    if (!strategy.plans_for_costs()) CHECK(alike);
    if (strategy.leaves_front() && strategy.left_out != LeftOut::affordable_front) CHECK_FALSE(alike);
  }
  CHECK(strategy_named("krul")->plans_for_costs());
  CHECK(strategy_named("hcache")->plans_for_costs());
  CHECK_FALSE(strategy_named("minicache")->plans_for_costs());
}

TEST_CASE("the paper's strategy merges the closest layers and leaves a pyramid out") {
  const Situation situation;
  const SavePlan plan = situation.plan("krul-paper");
  const auto chosen =
      AttentionSimilarity{}.pairs({.statistics = situation.statistics, .layers = 4, .tokens = history, .pairs = 1});
  CHECK(plan.pairs == chosen);
  CHECK(plan.left_out[0] > plan.left_out[3]);
  CHECK(situation.plan("merge-attention").pairs == chosen);
  CHECK(situation.plan("minicache").pairs == std::vector<LayerPair>{{2, 3}});
  CHECK(situation.plan("merge-predictable").pairs == std::vector<LayerPair>{{1, 2}});
}

TEST_CASE("a uniform front stores as many bytes as the pyramid, to a block of one layer") {
  const Situation situation;
  const Strategy paper = strategy_named("krul-paper").value();
  const SaveSituation of = situation.of(paper);
  const auto pyramid = planned_bytes(situation.plan("krul-paper"), of);
  const auto uniform = planned_bytes(situation.plan("krul-paper-uniform"), of);
  const std::uint64_t gap = pyramid > uniform ? pyramid - uniform : uniform - pyramid;
  CHECK(gap <= of.block_bytes.pair);
  const auto prefix = situation.plan("krul-paper-uniform").left_out;
  CHECK(prefix.front() - prefix.back() <= 16);
}

TEST_CASE("the fewest bytes: a front is left out as far as restores stay fast") {
  const Situation situation;
  const Strategy small = strategy_named("krul-small").value();
  SaveSituation of = situation.of(small);
  const RestoreSizes sizes = detail::sizes_of(codings_of(small).value(), of);
  const auto seconds_with = [&](std::size_t front) {
    return Predictor(sizes, *of.costs)(std::vector<std::size_t>(4, front)).first_token_s;
  };
  std::size_t before = 0;
  for (const double rate : {1e12, 1e6, 1e5, 3e4, 1e4}) {
    CAPTURE(rate);
    of.costs->link.bytes_per_s = rate;
    const double read_s = static_cast<double>(history * of.geometry.f16_token_bytes()) / rate;
    const double limit_s = 0.45 * std::min(read_s, seconds_with(history));
    const auto left_out = plan_save(small, of)->left_out;
    const std::size_t front = left_out.front();
    CHECK(left_out == std::vector<std::size_t>(4, front));
    if (front > 0) CHECK(seconds_with(front) <= limit_s);
    if (front + 16 <= history) CHECK(seconds_with(front + 16) > limit_s);
    before = std::max(before, front);
  }
  CHECK(before > 0);
}

TEST_CASE("behind an exact front the rest is coded more coarsely") {
  CHECK(detail::step_behind_front({-3}, 0, 100).code == -3);
  CHECK(detail::step_behind_front({-3}, 30, 100).code == -1);  // 4 log2(1 / 0.7) = 2.06
  CHECK(detail::step_behind_front({-3}, 75, 100).code == 5);
  CHECK(detail::step_behind_front({-3}, 100, 100).code == 12);
  CHECK(detail::step_behind_front({20}, 50, 100).code == 20);
}

TEST_CASE("the default codes by the profile where the link is slow and by rows where decoding would take longer") {
  Situation situation;
  const auto profile = toy_profile(situation.model);
  const Strategy krul = strategy_named("krul").value();
  SaveSituation of = situation.of(krul);
  const SavePlan joint = codings_of(krul, profile).value();
  of.profile = profile;
  const BlockBytes measured =
      measure_group_bytes(situation.cache, of.geometry, joint, 16, token_features(situation.model, situation.tokens));
  for (std::size_t i = 0; i < measured.groups.size(); ++i) CHECK(measured.recent_groups[i] > measured.groups[i]);
  of.block_bytes.groups = measured.groups;
  of.block_bytes.recent_groups = measured.recent_groups;
  of.costs->layer.decode_row_s = 1e-6;
  of.costs->layer.joint_row_s = 2e-4;
  of.costs->layer.project_row_s = of.costs->layer.finish_row_s = 1e-3;
  for (const double rate : {1e3, 1e9}) {
    CAPTURE(rate);
    of.costs->link.bytes_per_s = rate;
    const auto plan = plan_save(krul, of);
    REQUIRE(plan.has_value());
    CHECK((plan->profile != nullptr) == (rate < 1e6));
    CHECK(plan->strategy == "krul");
    // The strategies that are named for their coding keep it.
    CHECK(plan_save(strategy_named("krul-codec").value(), of)->profile != nullptr);
  }
  of.costs.reset();
  CHECK(plan_save(krul, of)->profile != nullptr);
}

TEST_CASE("planned bytes are the bytes that are stored") {
  const Situation situation;
  for (const char* name : {"load-f16", "minicache", "krul-paper", "pyramid", "partial"}) {
    CAPTURE(name);
    const Strategy strategy = strategy_named(name).value();
    SavePlan plan = situation.plan(name);
    MemoryStore store;
    REQUIRE(save_as(const_cast<toy::Backend&>(situation.model), store, situation.cache, situation.tokens,
                    {.id = "c", .plan = plan, .block = 16}));
    const auto manifest = load_manifest(store, conversation_folder("c").value())->manifest;
    const auto stored = store.size(conversation_folder("c").value() + "/" + manifest.objects.at(0)).value();
    const auto planned = planned_bytes(plan, situation.of(strategy));
    // How many tokens a merge retains differs from block to block: all of a pair's tensors at most.
    const std::uint64_t slack = plan.pairs.empty() ? 0 : stored / 4;
    CHECK(stored <= planned + slack);
    CHECK(planned <= stored + slack);
  }
}

TEST_CASE("without costs nothing is left out, and hidden states are kept of every layer") {
  const Situation situation;
  const Strategy paper = strategy_named("krul-paper").value(), hcache = strategy_named("hcache").value();
  SaveSituation of = situation.of(paper);
  of.costs.reset();
  CHECK(plan_save(paper, of)->left_out.empty());
  CHECK(plan_save(hcache, of)->hidden_states == std::vector<bool>(4, true));
}

TEST_CASE("a strategy that looks at what is not there is the caller's mistake") {
  const Situation situation;
  const AttentionStatistics none;
  const Strategy paper = strategy_named("krul-paper").value();
  const SaveSituation blind{
      .geometry = situation.model.geometry(), .tokens = history, .block_bytes = {}, .statistics = none};
  CHECK_THROWS_AS((void)plan_save(paper, blind), PreconditionError);
  CHECK_THROWS_AS((void)plan_save(strategy_named("merge-predictable").value(), blind), PreconditionError);
  CHECK_THROWS_AS(
      (void)measure_block_bytes(situation.cache, situation.model.geometry(), codings_of(paper).value(), history + 1),
      PreconditionError);
}

TEST_CASE("a conversation that is watched turn by turn has the statistics of one that was never interrupted") {
  toy::Backend model{ElementType::f32};
  MemoryStore store;
  const auto tokens = toy_tokens(220);
  std::vector<float> logits(model.geometry().vocabulary);
  const auto whole = [&] {
    auto cache = model.make_cache(512);
    auto batch = model.make_batch();
    TokenwiseSimilarityEstimator<> estimator(model.geometry());
    observed_prefill(model, cache, batch, tokens, logits, estimator);
    return estimator.statistics();
  }();
  const auto expected = logits;
  for (const std::size_t end : {std::size_t{60}, std::size_t{61}, std::size_t{200}, std::size_t{220}}) {
    ConversationOptions options;
    options.codec = ExactCodec{};
    options.block = 16;
    auto talk = open_conversation(model, store, "watched", options).value();
    TokenwiseSimilarityEstimator<> estimator(model.geometry());
    REQUIRE(talk.advance(std::span(tokens).first(end), logits, estimator));
    const AttentionStatistics seen = estimator.statistics();
    CHECK(seen.rows == end);
    REQUIRE(talk.save(SavePlan::separate(ExactCodec{}), &seen));
    if (end < tokens.size()) continue;
    CHECK(logits == expected);
    // A row's weights sum to 1, so an entry of the Gram matrix is at most the rows of all heads; float sums over blocks
    // of at most 128 rows, rounded differently for each way of cutting, lose at most 2^-17 of that.
    const double largest = static_cast<double>(tokens.size() * model.geometry().query_heads);
    for (std::size_t i = 0; i < whole.squared.size(); ++i)
      CHECK(std::abs(seen.squared[i] - whole.squared[i]) <= 4 * 0x1p-17 * largest);
    for (std::size_t i = 0; i < whole.mass.size(); ++i)
      CHECK(seen.mass[i] == doctest::Approx(whole.mass[i]).epsilon(4 * 0x1p-24 + 1e-6));
  }
}

}  // namespace
}  // namespace krul
