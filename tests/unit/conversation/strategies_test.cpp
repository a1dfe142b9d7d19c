#include <doctest/doctest.h>

#include "krul/compress/exact_codec.hpp"
#include "krul/compress/float_codec.hpp"
#include "krul/compress/layer_pair_compressor.hpp"
#include "krul/compress/packed.hpp"
#include "krul/conversation/conversation.hpp"
#include "krul/similarity/observe.hpp"
#include "krul/strategy/catalogue/cake.hpp"
#include "krul/strategy/catalogue/h2o.hpp"
#include "krul/strategy/catalogue/hcache.hpp"
#include "krul/strategy/catalogue/krul.hpp"
#include "krul/strategy/catalogue/krul_codec.hpp"
#include "krul/strategy/catalogue/krul_paper.hpp"
#include "support/foreign_parts.hpp"
#include "support/toy_conversation.hpp"
#include "support/toy_profile.hpp"

namespace krul {
namespace {

using test::toy_tokens;

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
    options.block = 16;
    // Rows that were restored are those that were saved, or what comes after them would be seen otherwise.
    const Composed<AttentionSimilarity, LayerPairCompressor<Packed, ExactCodec>> watches("watches");
    auto talk = open_conversation(model, store, "watched", watches, options).value();
    REQUIRE(talk.advance(std::span(tokens).first(end), logits));
    const AttentionStatistics seen = *talk.statistics();
    CHECK(seen.rows == end);
    const auto saved = talk.save(SavePlan::separate(ExactCodec{}), talk.statistics());
    REQUIRE(saved.has_value());
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

TEST_CASE("the default is what its name says: it measures the conversation, and remembers what it measured") {
  toy::Backend model{ElementType::f16};
  MemoryStore store;
  const auto profile = test::toy_profile(model);
  const auto tokens = toy_tokens(330);
  std::vector<float> logits(model.geometry().vocabulary);
  std::optional<std::int8_t> step;
  for (const std::size_t end : {std::size_t{300}, std::size_t{330}}) {
    auto talk = open_conversation(model, store, "garden", strategy::krul(profile)).value();
    CHECK(talk.statistics() == nullptr);  // it does not look at attention
    REQUIRE(talk.advance(std::span(tokens).first(end), logits));
    REQUIRE(talk.save());
    const SavePlanRecord& plan = talk.manifest().plans.back();
    CHECK(plan.strategy == "krul");
    CHECK(plan.profile == profile->hash());
    REQUIRE(plan.measured_step.has_value());
    if (step) CHECK(plan.measured_step == step);
    step = plan.measured_step;
  }
  auto plain = open_conversation(model, store, "hill").value();
  REQUIRE(plain.advance(tokens, logits));
  REQUIRE(plain.save());
  CHECK(plain.manifest().plans.back() == SavePlanRecord{"krul", "int8"});
}

TEST_CASE("what a strategy cannot do is said, and what needs no costs is done without them") {
  toy::Backend model{ElementType::f16};
  const auto tokens = toy_tokens(120);
  std::vector<float> logits(model.geometry().vocabulary);
  const auto back = [&](const AnyStrategy& strategy, std::optional<Costs> costs) {
    MemoryStore store;
    for (const std::size_t end : {std::size_t{100}, std::size_t{120}}) {
      ConversationOptions options;
      options.costs = costs;
      auto talk = open_conversation(model, store, "garden", strategy, options).value();
      const auto report = talk.advance(std::span(tokens).first(end), logits).value();
      REQUIRE(talk.save());
      if (end == tokens.size()) return report;
    }
    return RestoreReport{};
  };
  const Costs costs{.link = {.bytes_per_s = 1e3}, .layer = {.project_row_s = 1e-6, .finish_row_s = 1e-6}};
  const auto blind = back(strategy::krul(), std::nullopt);
  CHECK(blind.recomputed_tokens() == 0);
  REQUIRE(blind.notes.size() == 2);
  CHECK(blind.notes[0].find("give the options costs") != std::string::npos);
  CHECK(blind.notes[0].find("looks_at_costs = false") != std::string::npos);
  CHECK(blind.notes[1].find("profile") != std::string::npos);
  CHECK(blind.reasons.empty());
  const auto planned = back(strategy::krul(test::toy_profile(model)), costs);
  CHECK(planned.recomputed_tokens() > 0);
  CHECK(planned.notes.empty());
  // Two pointers meet wherever they meet, and everything recomputed is what its name says.
  CHECK(back(strategy::cake(), std::nullopt).notes.empty());
  const auto recomputed = back(strategy::by_layer("computed", F16Codec{}, FullRecompute{}), std::nullopt);
  CHECK(recomputed.recomputed_tokens() == 100);
  CHECK(recomputed.notes.empty());
}

TEST_CASE("what only a run from the beginning has is refused by name, before anything runs") {
  toy::Backend model{ElementType::f16};
  MemoryStore store;
  std::vector<float> logits(model.geometry().vocabulary);
  for (const AnyStrategy& strategy : {AnyStrategy(strategy::H2o{}), AnyStrategy(strategy::Hcache{})}) {
    const auto refused = open_conversation(model, store, "garden", strategy);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == ErrorCode::unsupported);
    CHECK(refused.error().message.find("strategy " + strategy.name()) != std::string::npos);
    // To restore by it is no mistake.
    auto reader = open_conversation(model, store, "garden", strategy, {.read_only = true}).value();
    REQUIRE(reader.advance(toy_tokens(20), logits));
    const auto planned = reader.plan();
    REQUIRE_FALSE(planned);
    CHECK(planned.error().code == ErrorCode::unsupported);
  }
  CHECK(open_conversation(model, store, "garden"));  // nobody holds it
}

TEST_CASE("what rows received of attention is kept with a conversation, and goes on with it") {
  toy::Backend model{ElementType::f16};
  const auto tokens = toy_tokens(200);
  std::vector<float> logits(model.geometry().vocabulary);
  const auto profile = test::toy_profile(model);
  MemoryStore store;
  const auto open = [&] { return open_conversation(model, store, "garden", strategy::krul_codec(profile)).value(); };
  const auto kept = [&] { return parse_row_attention(open().manifest().row_attention); };
  {
    auto conversation = open();
    REQUIRE(conversation.advance(std::span(tokens).first(130), logits));
    REQUIRE(conversation.save());
    CHECK_FALSE(conversation.plan()->classes.empty());
  }
  const auto first = kept();
  REQUIRE(first);
  CHECK(first->rows == 130);
  CHECK(first->counted > 0);
  {
    auto conversation = open();
    const auto report = conversation.advance(std::span(tokens).first(170), logits);
    REQUIRE(report);
    CHECK(report->matched == 130);
    CHECK(report->recomputed_rows == 0);
    CHECK(report->damaged_blocks.empty());
    for (std::size_t i = 170; i < 200; ++i) REQUIRE(conversation.append(tokens[i], logits));
    REQUIRE(conversation.save());
  }
  const auto second = kept();
  REQUIRE(second);
  CHECK(second->rows == 200);
  // What another coder can make nothing of says nothing, and what is damaged neither.
  auto other = open_conversation(model, store, "garden", strategy::krul_newest(profile)).value();
  REQUIRE(other.advance(tokens, logits));
  REQUIRE(other.append(tokens[0], logits));
  REQUIRE(other.save());
  CHECK(other.manifest().row_attention.empty());
}

TEST_CASE("where the link is so fast that the profile is not used, the report says so") {
  toy::Backend model{ElementType::f16};
  const auto tokens = toy_tokens(120);
  std::vector<float> logits(model.geometry().vocabulary);
  const auto profile = test::toy_profile(model);
  const auto notes = [&](const AnyStrategy& strategy, double bytes_per_s) {
    MemoryStore store;
    ConversationOptions options;
    options.costs =
        Costs{.link = {.bytes_per_s = bytes_per_s},
              .layer = {.project_row_s = 1e-3, .finish_row_s = 1e-3, .decode_row_s = 1e-6, .joint_row_s = 2e-4}};
    auto first = std::make_optional(open_conversation(model, store, "garden", strategy, options).value());
    REQUIRE(first->advance(std::span(tokens).first(100), logits));
    REQUIRE(first->save());
    first.reset();
    return open_conversation(model, store, "garden", strategy, options)->advance(tokens, logits)->notes;
  };
  const auto plain = notes(strategy::krul(profile), 1e9);
  REQUIRE(plain.size() == 1);
  CHECK(plain[0].find("rows were stored as int8 although there is a profile: over this link") != std::string::npos);
  CHECK(plain[0].find("krul-codec") != std::string::npos);
  CHECK(notes(strategy::krul(profile), 1e3).empty());
  CHECK(notes(strategy::krul_codec(profile), 1e9).empty());
  // Rows that were saved before there was a profile were not chosen over it.
  MemoryStore store;
  auto before = std::make_optional(open_conversation(model, store, "garden").value());
  REQUIRE(before->advance(std::span(tokens).first(100), logits));
  REQUIRE(before->save());
  before.reset();
  ConversationOptions options;
  options.costs = Costs{.link = {.bytes_per_s = 1e9}, .layer = {}};
  auto after = open_conversation(model, store, "garden", strategy::krul(profile), options).value();
  CHECK(after.advance(tokens, logits)->notes.empty());
}

TEST_CASE("opening is a part of what is predicted for the first restore alone") {
  toy::Backend model{ElementType::f32};
  const auto tokens = toy_tokens(120);
  std::vector<float> logits(model.geometry().vocabulary);
  MemoryStore store;
  ConversationOptions options;
  options.costs = Costs{.link = {.bytes_per_s = 1e9}, .layer = {.project_row_s = 1}, .open_s = 3};
  auto talk = open_conversation(model, store, "garden", strategy::load(Int8Codec{}), options).value();
  REQUIRE(talk.advance(std::span(tokens).first(100), logits));
  REQUIRE(talk.save());
  auto reader = options;
  reader.read_only = true;
  auto returning = open_conversation(model, store, "garden", strategy::load(Int8Codec{}), reader).value();
  CHECK(returning.advance(tokens, logits)->predicted.opening_s >= 3);
  returning.drop();
  CHECK(returning.advance(tokens, logits)->predicted.opening_s == 0);
}

/// Plans by a coder that its needs do not name.
struct Secretive {
  [[nodiscard]] std::string name() const { return "secretive"; }
  [[nodiscard]] Needs needs() const { return {}; }
  [[nodiscard]] Result<SavePlan> plan(const Evidence&) const {
    return SavePlan::separate(test::InvertedCodec{}, name());
  }
  [[nodiscard]] AsStored restore_policy() const { return {}; }
};

TEST_CASE("a plan that no restore could decode is refused before it is saved") {
  toy::Backend model{ElementType::f16};
  MemoryStore store;
  std::vector<float> logits(model.geometry().vocabulary);
  ConversationOptions options;
  auto talk = open_conversation(model, store, "garden", Secretive{}, options).value();
  REQUIRE(talk.advance(toy_tokens(20), logits));
  const auto refused = talk.save();
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == ErrorCode::invalid_argument);
  CHECK(refused.error().message.find("acme.inverted.1") != std::string::npos);
  options.codings.add(LayerPairCompressor(Separate{}, test::InvertedCodec{}));
  auto known = open_conversation(model, store, "hill", Secretive{}, options).value();
  REQUIRE(known.advance(toy_tokens(20), logits));
  CHECK(known.save());
}

TEST_CASE("a conversation that begins anew forgets what was seen of the tokens that are gone") {
  toy::Backend model{ElementType::f32};
  MemoryStore store;
  std::vector<float> logits(model.geometry().vocabulary);
  auto talk = open_conversation(model, store, "garden", strategy::krul_paper()).value();
  REQUIRE(talk.advance(toy_tokens(100), logits));
  CHECK(talk.statistics()->rows == 100);
  REQUIRE(talk.append(3, logits));
  CHECK(talk.statistics()->rows == 101);
  auto others = toy_tokens(60, 7);
  others.front() = toy_tokens(1).front() + 1;
  REQUIRE(talk.advance(others, logits));
  CHECK(talk.statistics()->rows == 60);
}

TEST_CASE("a pass that was given up for damage is seen again: what is saved is of all rows, each once") {
  toy::Backend model{ElementType::f32};
  MemoryStore store;
  const auto tokens = toy_tokens(60);
  std::vector<float> logits(model.geometry().vocabulary);
  ConversationOptions options;
  options.block = 16;
  const Composed<AttentionSimilarity, LayerPairCompressor<Packed, ExactCodec>> watches("watches");
  const auto open = [&] { return open_conversation(model, store, "watched", watches, options).value(); };
  {
    auto talk = open();
    REQUIRE(talk.advance(std::span(tokens).first(40), logits));
    REQUIRE(talk.save(SavePlan::separate(ExactCodec{}), talk.statistics()));
  }
  const Manifest saved = load_manifest(store, conversation_folder("watched").value())->manifest;
  for (std::size_t layer = 1; layer < saved.layers; ++layer)  // the first one's rows are there: its pass begins
    for (std::size_t block = 0; block < saved.blocks(); ++block) {
      const ChunkRecord& chunk = saved.chunk(layer, block);
      test::flip_byte(store, conversation_folder("watched").value() + "/" + saved.objects[chunk.object], chunk.offset);
    }
  auto talk = open();
  const auto report = talk.advance(tokens, logits);
  REQUIRE(report);
  CHECK(report->recomputed_all);
  CHECK(logits == test::run_through(model, tokens).logits);
  CHECK(talk.statistics()->rows == 60);
  MemoryStore other;
  auto uninterrupted = open_conversation(model, other, "watched", watches, options).value();
  REQUIRE(uninterrupted.advance(tokens, logits));
  const AttentionStatistics &seen = *talk.statistics(), &whole = *uninterrupted.statistics();
  for (std::size_t i = 0; i < whole.mass.size(); ++i)
    CHECK(seen.mass[i] == doctest::Approx(whole.mass[i]).epsilon(1e-5));
  CHECK(talk.save(SavePlan::separate(ExactCodec{}), talk.statistics()));
}

}  // namespace
}  // namespace krul
