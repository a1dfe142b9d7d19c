#include "krul/strategy/catalogue.hpp"
#include "krul/compress/direct_reuse.hpp"
#include "krul/compress/float_codec.hpp"
#include "krul/compress/int4_codec.hpp"
#include "krul/compress/int8_codec.hpp"
#include "krul/compress/layer_pair_compressor.hpp"
#include "krul/restore/predict.hpp"
#include "krul/strategy/catalogue/all.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <set>

#include "krul/conversation/save.hpp"
#include "krul/similarity/observe.hpp"
#include "krul/similarity/row_attention_estimator.hpp"
#include "krul/similarity/tokenwise_similarity_estimator.hpp"
#include "krul/strategy/gather.hpp"
#include "support/foreign_parts.hpp"
#include "support/toy_conversation.hpp"
#include "support/toy_profile.hpp"

namespace krul {
namespace {

using test::toy_profile;
using test::toy_tokens;

constexpr std::size_t history = 256;

/// A conversation of the toy model, and what is known of it and its machine.
struct Situation {
  toy::Backend model{ElementType::f16};
  std::vector<Token> tokens = toy_tokens(history);
  toy::Backend::Cache cache = model.make_cache(512);
  Workers workers{2};
  AttentionStatistics statistics;
  std::vector<double> unpredictability = {0, 4, 3, 2, 4, 0, 1, 9, 3, 1, 0, 9, 2, 9, 9, 0};
  Costs costs{.link = {.bytes_per_s = 1e5}, .layer = {.project_row_s = 1e-3, .finish_row_s = 1e-3}};
  std::shared_ptr<const Profile> profile = {};

  Situation() {
    auto batch = model.make_batch();
    TokenwiseSimilarityEstimator<> estimator(model.geometry());
    std::vector<float> logits(model.geometry().vocabulary);
    observed_prefill(model, cache, batch, tokens, logits, estimator);
    statistics = estimator.statistics();
  }

  [[nodiscard]] std::vector<strategy::Listed> catalogue() const { return strategy::catalogue(profile); }
  [[nodiscard]] AnyStrategy named(std::string_view name) const { return strategy::named(catalogue(), name).value(); }
  [[nodiscard]] Evidence evidence(const Needs& needs) {
    Evidence evidence = gather_evidence(model, needs,
                                        LiveConversation<toy::Backend::Cache>{.cache = cache,
                                                                              .tokens = tokens,
                                                                              .workers = workers,
                                                                              .statistics = &statistics,
                                                                              .costs = costs,
                                                                              .block = 16});
    evidence.unpredictability = unpredictability;
    return evidence;
  }
  [[nodiscard]] SavePlan plan(const AnyStrategy& strategy) { return strategy.plan(evidence(strategy.needs())).value(); }
  [[nodiscard]] SavePlan plan(std::string_view name) { return plan(named(name)); }
};

TEST_CASE("every strategy has a name of its own, and a plan that fits the model") {
  Situation situation;
  std::set<std::string> names;
  for (const strategy::Listed& listed : situation.catalogue()) {
    const AnyStrategy& strategy = listed.strategy;
    CAPTURE(strategy.name());
    const SavePlan plan = situation.plan(strategy);
    CHECK_NOTHROW(expects_valid(plan, 4));
    CHECK(plan.strategy == strategy.name());
    CHECK(names.insert(strategy.name()).second);
    CHECK_FALSE(listed.meaning.empty());
    CHECK(plan.pairs.size() <= 1);  // a quarter of four layers
    CHECK((plan.pairs.size() == 1) == (plan.pair_coding.layers() == 2));
    // What depends on nothing that costs say is the same without them.
    Evidence free = situation.evidence(strategy.needs());
    free.costs.reset();
    if (!strategy.needs().costs) CHECK(strategy.plan(free)->left_out == plan.left_out);
    if (strategy.name() != "recompute") CHECK(strategy.plan(free)->left_out.empty());
  }
}

TEST_CASE("strategies are found by name") {
  const auto list = strategy::catalogue();
  CHECK(strategy::named(list, "partial")->name() == "partial");
  const auto unknown = strategy::named(list, "fastest");
  REQUIRE_FALSE(unknown);
  CHECK(unknown.error().code == ErrorCode::invalid_argument);
  for (const auto& each : list) CHECK(unknown.error().message.find(each.strategy.name()) != std::string::npos);
  CHECK(strategy::all_named(list, "krul,load-f16")->size() == 2);
  CHECK_FALSE(strategy::all_named(list, "krul,,load-f16"));
}

TEST_CASE("strategies are told no more than they need") {
  Situation situation;
  for (const strategy::Listed& listed : situation.catalogue()) {
    const AnyStrategy& strategy = listed.strategy;
    CAPTURE(strategy.name());
    const Needs needs = strategy.needs();
    Evidence blind = situation.evidence(needs);
    if (!needs.block_bytes) blind.block_bytes = {};
    if (!needs.attention) blind.statistics = {};
    if (!needs.predictability) blind.unpredictability.clear();
    if (!needs.costs) blind.costs.reset();
    const SavePlan plan = strategy.plan(blind).value(), full = situation.plan(strategy);
    CHECK(plan.left_out == full.left_out);
    CHECK(plan.pairs == full.pairs);
    CHECK(plan.record() == full.record());
  }
}

TEST_CASE("what does not plan for costs is saved alike for every link") {
  Situation situation;
  for (const strategy::Listed& listed : situation.catalogue()) {
    const AnyStrategy& strategy = listed.strategy;
    CAPTURE(strategy.name());
    situation.costs.link.bytes_per_s = 1e5;
    const SavePlan slow = situation.plan(strategy);
    situation.costs.link.bytes_per_s = 1e12;
    const SavePlan fast = situation.plan(strategy);
    const bool alike = slow.left_out == fast.left_out && slow.from_source == fast.from_source &&
                       slow.pairs == fast.pairs && slow.record() == fast.record();
    if (!strategy.needs().costs) CHECK(alike);
    if (!slow.left_out.empty() && strategy.name() != "recompute" && strategy.name() != "krul-small") CHECK_FALSE(alike);
  }
  for (const char* name : {"krul", "hcache", "partial", "krul-paper"}) CHECK(situation.named(name).needs().costs);
  for (const char* name : {"minicache", "krul-compact", "load-f16"}) CHECK_FALSE(situation.named(name).needs().costs);
}

TEST_CASE("the paper's strategy merges the closest layers and leaves a pyramid out") {
  Situation situation;
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
  Situation situation;
  const Evidence of = situation.evidence(strategy::krul_paper().needs());
  const auto pyramid = planned_bytes(situation.plan("krul-paper"), of);
  const auto uniform = planned_bytes(situation.plan("krul-paper-uniform"), of);
  const std::uint64_t gap = pyramid > uniform ? pyramid - uniform : uniform - pyramid;
  CHECK(gap <= of.block_bytes.pair);
  const auto prefix = situation.plan("krul-paper-uniform").left_out;
  CHECK(prefix.front() - prefix.back() <= 16);
}

TEST_CASE("the fewest bytes: a front is left out as far as restores stay fast") {
  Situation situation;
  const strategy::KrulSmall small;
  Evidence of = situation.evidence(small.needs());
  const RestoreSizes sizes = planned_sizes(SavePlan::separate(Int4Codec{}), of);
  const auto seconds_with = [&](std::size_t front) {
    return Predictor(sizes, *of.costs)(std::vector<std::size_t>(4, front)).first_token_s;
  };
  std::size_t before = 0;
  for (const double rate : {1e12, 1e6, 1e5, 3e4, 1e4}) {
    CAPTURE(rate);
    of.costs->link.bytes_per_s = rate;
    const double read_s = static_cast<double>(history * of.geometry.f16_token_bytes()) / rate;
    const double limit_s = 0.45 * std::min(read_s, seconds_with(history));
    const auto left_out = small.plan(of)->left_out;
    const std::size_t front = left_out.front();
    CHECK(left_out == std::vector<std::size_t>(4, front));
    if (front > 0) CHECK(seconds_with(front) <= limit_s);
    if (front + 16 <= history) CHECK(seconds_with(front + 16) > limit_s);
    before = std::max(before, front);
  }
  CHECK(before > 0);
}

TEST_CASE("behind an exact front the rest is coded more coarsely") {
  const auto behind = strategy::KrulSmall::step_behind_front;
  CHECK(behind({-3}, 0, 100).code == -3);
  CHECK(behind({-3}, 30, 100).code == -1);  // 4 log2(1 / 0.7) = 2.06
  CHECK(behind({-3}, 75, 100).code == 5);
  CHECK(behind({-3}, 100, 100).code == 12);
  CHECK(behind({20}, 50, 100).code == 20);
}

TEST_CASE("the default codes by the profile where the link is slow and by rows where decoding would take longer") {
  Situation situation;
  situation.profile = toy_profile(situation.model);
  const strategy::Krul krul(situation.profile);
  Evidence of = situation.evidence(krul.needs());
  REQUIRE(of.step.has_value());
  REQUIRE(of.block_bytes.groups.size() == 2);
  for (std::size_t i = 0; i < 2; ++i) CHECK(of.block_bytes.recent_groups[i] > of.block_bytes.groups[i]);
  CHECK(of.block_bytes.single > 0);
  of.costs->layer.decode_row_s = 1e-6;
  of.costs->layer.joint_row_s = 2e-4;
  for (const double rate : {1e3, 1e9}) {
    CAPTURE(rate);
    of.costs->link.bytes_per_s = rate;
    const auto plan = krul.plan(of);
    REQUIRE(plan.has_value());
    CHECK((plan->profile != nullptr) == (rate < 1e6));
    CHECK(plan->settings.empty() == (rate < 1e6));  // says why
    CHECK(plan->strategy == "krul");
    CHECK(plan->measured_step == of.step);
    // The strategies that are named for their coding keep it.
    CHECK(strategy::krul_codec(situation.profile).plan(of)->profile != nullptr);
  }
  of.costs.reset();
  CHECK(krul.plan(of)->profile != nullptr);
}

TEST_CASE("a conversation's step is measured once, and only where something asks for it") {
  Situation situation;
  situation.profile = toy_profile(situation.model);
  const Needs needs = strategy::krul_codec(situation.profile).needs();
  LiveConversation<toy::Backend::Cache> live{
      .cache = situation.cache, .tokens = situation.tokens, .workers = situation.workers};
  const auto measured = gather_evidence(situation.model, needs, live).step;
  REQUIRE(measured.has_value());
  live.step = StepScale{static_cast<std::int8_t>(measured->code - 1)};
  CHECK(gather_evidence(situation.model, needs, live).step == live.step);
  CHECK_FALSE(gather_evidence(situation.model, strategy::krul_codec().needs(), live).step.has_value());
  CHECK_FALSE(gather_evidence(situation.model, strategy::minicache().needs(), live).step.has_value());
  CHECK(strategy::krul_codec().needs().profile_is_missing);
  CHECK_FALSE(needs.profile_is_missing);
  // Too short to tell: the strategy's own.
  live.step.reset();
  live.tokens = live.tokens.first(100);
  const Evidence brief = gather_evidence(situation.model, needs, live);
  CHECK_FALSE(brief.step.has_value());
  const auto plan = strategy::krul_codec(situation.profile).plan(brief);
  CHECK(plan->step == needs.codings.front().step);
  CHECK_FALSE(plan->measured_step.has_value());
}

TEST_CASE("what rows received of attention says how finely they are coded") {
  Situation situation;
  situation.profile = toy_profile(situation.model);
  const auto by_attention = strategy::krul_codec(situation.profile);
  const Needs needs = by_attention.needs();
  REQUIRE(needs.row_attention == bands_of(*situation.profile));
  CHECK(strategy::krul_codec().needs().row_attention.empty());  // without a profile there are no classes

  auto cache = situation.model.make_cache(512);
  auto batch = situation.model.make_batch();
  RowAttentionEstimator estimator(situation.model.geometry(), needs.row_attention);
  observed_prefill(situation.model, cache, batch, situation.tokens, std::span<float>{}, estimator);
  Evidence evidence = situation.evidence(needs);
  const auto unseen = by_attention.plan(evidence);
  CHECK(unseen->classes.empty());
  CHECK(unseen->recent == RecentRows{});

  evidence.row_attention = estimator.attention();
  const auto plan = by_attention.plan(evidence);
  REQUIRE(plan.has_value());
  CHECK_NOTHROW(expects_valid(*plan, 4));
  Evidence wordless = evidence;
  wordless.history.clear();
  CHECK_THROWS_AS(static_cast<void>(by_attention.plan(wordless)), PreconditionError);
  CHECK(plan->classes == row_classes(evidence.attended_rows(), ClassesByAttention{}));
  CHECK(plan->classes.size() == needs.row_attention.size() * history);
  CHECK(plan->step.code == unseen->step.code + needs.classes->codes);
  CHECK(plan->measured_step == unseen->measured_step);
  CHECK(plan->recent.finer == 0);
  CHECK(plan->row_attention->rows == history);
  // The classes of some rows in the group of a layer.
  const std::size_t groups = needs.row_attention.size();
  const auto last = plan->classes_of(3, {16, 48}, history);
  CHECK(std::ranges::equal(last, std::span(plan->classes).subspan((groups - 1) * history + 16, 32)));
  CHECK(unseen->classes_of(0, {0, 16}, history).empty());

  SavePlan wrong = *plan;
  wrong.classes.pop_back();
  if (groups > 1) CHECK_THROWS_AS(expects_valid(wrong, 4), PreconditionError);
  wrong.classes = {StepClasses::count};
  CHECK_THROWS_AS(expects_valid(wrong, 4), PreconditionError);
  wrong = *plan;
  wrong.profile.reset();
  CHECK_THROWS_AS(expects_valid(wrong, 4), PreconditionError);
}

TEST_CASE("what a block takes is tried with the classes of its rows") {
  Situation situation;
  situation.profile = toy_profile(situation.model);
  const strategy::Krul krul(situation.profile);
  auto cache = situation.model.make_cache(512);
  auto batch = situation.model.make_batch();
  RowAttentionEstimator estimator(situation.model.geometry(), krul.needs().row_attention);
  observed_prefill(situation.model, cache, batch, situation.tokens, std::span<float>{}, estimator);
  const LiveConversation<toy::Backend::Cache> live{.cache = cache,
                                                   .tokens = situation.tokens,
                                                   .workers = situation.workers,
                                                   .row_attention = &estimator.attention(),
                                                   .costs = situation.costs,
                                                   .block = 16};
  const Evidence evidence = gather_evidence(situation.model, krul.needs(), live);
  const auto plan = strategy::krul_codec(situation.profile).plan(evidence);
  REQUIRE(plan.has_value());
  const TokenFeatures features = token_features(situation.model, situation.tokens);
  const auto& groups = situation.profile->data().groups;
  const auto chunk_bytes = [&](std::size_t group, TokenRange tokens) {
    std::vector<OwnedKvRows> rows;
    for (std::size_t layer = 0; layer < groups[group].layers; ++layer)
      rows.push_back(read_kv_rows(cache, situation.model.geometry(), groups[group].first_layer + layer, tokens));
    const BlockContext context{static_cast<Position>(tokens.begin), features.of(tokens),
                               plan->classes_of(groups[group].first_layer, tokens, history)};
    return JointTransform(situation.profile, group, plan->step)
        .encode(situation.model.geometry(), views_of(rows), context)
        .size();
  };
  for (std::size_t group = 0; group < groups.size(); ++group) {
    CHECK(evidence.block_bytes.groups[group] == chunk_bytes(group, {history / 2, history / 2 + 16}));
    CHECK(evidence.block_bytes.recent_groups[group] == chunk_bytes(group, {history - 16, history}));
  }
  CHECK(middle_block(64, 64).begin == 0);
  CHECK(middle_block(127, 64).begin == 0);
  CHECK(middle_block(130, 64).end == 128);
}

TEST_CASE("a point of the curve says which rows are finer") {
  Situation situation;
  situation.profile = toy_profile(situation.model);
  auto cache = situation.model.make_cache(512);
  auto batch = situation.model.make_batch();
  RowAttentionEstimator estimator(situation.model.geometry(), bands_of(*situation.profile));
  observed_prefill(situation.model, cache, batch, situation.tokens, std::span<float>{}, estimator);
  for (const strategy::FinerRows finer : strategy::all_finer_rows) {
    CAPTURE(strategy::name_of(finer));
    const auto point = strategy::coded_at_step({-4}, situation.profile, finer);
    const bool attended = finer != strategy::FinerRows::newest && finer != strategy::FinerRows::none;
    CHECK(point.needs().row_attention.empty() != attended);
    CHECK(point.needs().coming_attention == (finer == strategy::FinerRows::oracle));
    CHECK(for_any_turn(point.needs(), point.name()).has_value() == !point.needs().coming_attention);
    Evidence evidence = situation.evidence(point.needs());
    if (attended) evidence.row_attention = estimator.attention();
    const auto plan = point.plan(evidence);
    REQUIRE(plan.has_value());
    CHECK(plan->step.code == -4);
    CHECK(plan->classes.empty() != attended);
    const bool newest = finer == strategy::FinerRows::newest || finer == strategy::FinerRows::both;
    CHECK((plan->recent.count > 0 && plan->recent.finer > 0) == newest);
  }
  CHECK(strategy::coded_at_step({-4}, situation.profile).name() == "step-4");
  CHECK(strategy::coded_for(0.008, situation.profile).name() == "kl0.008");
  CHECK(strategy::coded_for(0.008, situation.profile).needs().step->kl == 0.008);
  CHECK(strategy::coded_at_step({4}, situation.profile, strategy::FinerRows::newest).name() == "step4-newest");
}

TEST_CASE("planned bytes are the bytes that are stored") {
  Situation situation;
  for (const char* name : {"load-f16", "minicache", "krul-paper", "pyramid", "partial"}) {
    CAPTURE(name);
    const AnyStrategy strategy = situation.named(name);
    Needs weighed = strategy.needs();
    weighed.block_bytes = true;
    const Evidence evidence = situation.evidence(weighed);
    const SavePlan plan = strategy.plan(evidence).value();
    MemoryStore store;
    REQUIRE(save_as(situation.model, store, situation.cache, situation.tokens, {.id = "c", .plan = plan, .block = 16}));
    const auto manifest = load_manifest(store, conversation_folder("c").value())->manifest;
    const auto stored = store.size(conversation_folder("c").value() + "/" + manifest.objects.at(0)).value();
    const auto planned = planned_bytes(plan, evidence);
    // How many tokens a merge retains differs from block to block: all of a pair's tensors at most.
    const std::uint64_t slack = plan.pairs.empty() ? 0 : stored / 4;
    CHECK(stored <= planned + slack);
    CHECK(planned <= stored + slack);
  }
}

TEST_CASE("layers that keep their input are planned with its bytes") {
  Situation situation;
  const Evidence of = situation.evidence(strategy::Hcache{}.needs());
  SavePlan plan = SavePlan::separate(F16Codec{});
  plan.from_source = {false, true, true, true};
  const RestoreSizes sizes = planned_sizes(plan, of);
  CHECK(sizes.layers[0].projected_share == 0);
  CHECK(sizes.layers[0].block_bytes.front() == of.block_bytes.single);
  CHECK(sizes.layers[1].projected_share == 1);
  CHECK(sizes.layers[1].block_bytes.front() == of.block * of.geometry.hidden * 2);
  CHECK(planned_bytes(plan, of) == history / of.block * of.block_bytes.single + 3 * history * of.geometry.hidden * 2);
}

TEST_CASE("without costs nothing is left out, and hidden states are kept of every layer") {
  Situation situation;
  Evidence of = situation.evidence(strategy::krul_paper().needs());
  of.costs.reset();
  CHECK(strategy::krul_paper().plan(of)->left_out.empty());
  CHECK(strategy::Hcache{}.plan(of)->from_source == std::vector<bool>(4, true));
}

TEST_CASE("a strategy that looks at what is not there is the caller's mistake") {
  Situation situation;
  Evidence blind{.geometry = situation.model.geometry(), .tokens = history};
  CHECK_THROWS_AS((void)strategy::krul_paper().plan(blind), PreconditionError);
  CHECK_THROWS_AS((void)strategy::merge_predictable().plan(blind), PreconditionError);
  blind.costs = situation.costs;
  CHECK_THROWS_AS((void)strategy::Krul(toy_profile(situation.model)).plan(blind), PreconditionError);
  CHECK_THROWS_AS((void)measure_block_bytes(situation.cache, situation.model.geometry(),
                                            strategy::krul_paper().needs().codings.front(), history + 1),
                  PreconditionError);
}

TEST_CASE("a strategy is composed of anybody's parts") {
  Situation situation;
  using Mine =
      Composed<test::FirstAndLast, LayerPairCompressor<DirectReuse, Int8Codec>, test::FirstBlock, FullRecompute>;
  const AnyStrategy mine = Mine("mine");
  const Needs needs = mine.needs();
  CHECK(needs.attention);  // the policy does not say that it looks away
  CHECK(needs.block_bytes);
  CHECK(needs.costs);
  REQUIRE(needs.codings.size() == 1);
  CHECK(needs.codings.front().coding.name() == "int8");
  const SavePlan plan = situation.plan(mine);
  CHECK(plan.strategy == "mine");
  CHECK(plan.pairs == std::vector<LayerPair>{{0, 3}});
  CHECK(plan.settings == "pairs 0+3");
  CHECK(plan.pair_coding.name() == "reuse+int8");
  CHECK(plan.left_out == std::vector<std::size_t>(4, 16));
  const RestoreSizes sizes = planned_sizes(plan, situation.evidence(needs));
  CHECK(mine.restore_policy().prefix(sizes, situation.costs) == std::vector<std::size_t>(4, history));
  CHECK_FALSE(mine.restore_policy().split(sizes, situation.costs).has_value());
  CHECK_THROWS_AS((StrategySelector<NoSharing>({}, {}, 0.4)), PreconditionError);
}

TEST_CASE("a point of the curve of size and quality: one step for all conversations") {
  Situation at;
  const auto profile = toy_profile(at.model);
  const auto coded = strategy::coded_at_step({-20}, profile);
  CHECK(coded.name() == "step-20");
  CHECK(coded.plan({})->step.code == -20);
  CHECK_FALSE(coded.needs().step.has_value());
  CHECK(strategy::coded_at_step({-20}, nullptr).plan({})->coding.name() ==
        SavePlan::separate(Int4Codec{}).coding.name());
}

}  // namespace
}  // namespace krul
