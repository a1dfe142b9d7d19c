#include "krul/eval/compare.hpp"
#include "krul/compress/exact_codec.hpp"
#include "krul/compress/float_codec.hpp"
#include "krul/compress/int4_codec.hpp"
#include "krul/compress/int8_codec.hpp"
#include "krul/compress/layer_pair_compressor.hpp"

#include <doctest/doctest.h>

#include "krul/store/faulty_store.hpp"
#include "krul/strategy/catalogue.hpp"
#include "krul/strategy/catalogue/all.hpp"
#include "support/foreign_parts.hpp"
#include "support/toy_profile.hpp"

namespace krul {
namespace {

using test::toy_tokens;

/// Conversations of the toy model.
std::vector<eval::ComparedText> toy_texts() {
  std::vector<eval::ComparedText> texts;
  for (const unsigned seed : {3U, 5U}) {
    const auto tokens = toy_tokens(300, seed);
    texts.push_back({{tokens.begin(), tokens.begin() + 280}, {tokens.begin() + 280, tokens.end()}});
  }
  return texts;
}

using Mine = Composed<test::FirstAndLast, LayerPairCompressor<test::DifferingBits, test::InvertedCodec>,
                      test::FirstBlock, test::SecondHalf>;

TEST_CASE("strategies of krul's and of anybody's are compared on a backend of anybody's, in one table") {
  toy::Backend model{ElementType::f32};
  MemoryStore store;
  const auto profile = test::toy_profile(model);
  const std::vector<AnyStrategy> strategies = {
      strategy::recompute(), strategy::load(ExactCodec{}), strategy::load(Int4Codec{}),
      strategy::minicache(), strategy::partial(),          strategy::krul(profile),
      strategy::H2o{},       strategy::Hcache{},           strategy::krul_paper(),
      Mine("mine")};
  eval::ComparisonSettings settings;
  settings.costs = Costs{.link = {.bytes_per_s = 1e6}, .layer = {.project_row_s = 1e-4, .finish_row_s = 1e-4}};
  settings.block = 16;
  const auto found =
      eval::compare<toy::Backend, MemoryStore, ManualClock>(model, toy_texts(), store, strategies, settings);
  REQUIRE_MESSAGE(found.has_value(), found.error().message);
  REQUIRE(found->size() == strategies.size());
  for (std::size_t i = 0; i < strategies.size(); ++i) {
    const auto& each = (*found)[i];
    CAPTURE(each.name);
    CHECK(each.name == strategies[i].name());
    CHECK(each.reasons.empty());
    CHECK(each.quality.conversations == 2);
    CHECK(each.quality.tokens == 2 * 19);
    CHECK(each.bytes_per_token > 0);
    CHECK(each.predicted_s > 0);
    CHECK(each.first_token_s == 0);  // by a clock that stands still
  }
  const auto named = [&](std::string_view name) {
    return *std::ranges::find_if(*found, [&](const auto& each) { return each.name == name; });
  };
  // What is loaded bit for bit or computed again says the same; a codec's error is seen.
  for (const char* name : {"recompute", "load-exact", "mine"}) CHECK(named(name).quality.kl == 0);
  CHECK(named("load-int4").quality.kl > 0);
  CHECK(named("minicache").quality.kl > named("load-int4").quality.kl);
  CHECK(named("recompute").recomputed_tokens == 280);
  CHECK(named("load-exact").recomputed_tokens == 0);
  CHECK(named("mine").recomputed_tokens == 144);  // half, in whole blocks
  CHECK(named("krul").bytes_per_token < named("load-int4").bytes_per_token * 2);
  CHECK(named("h2o").bytes_per_token < named("load-exact").bytes_per_token);
  CHECK(store.used() == 0);
  const std::string table = eval::table_of(*found);
  for (const AnyStrategy& strategy : strategies) CHECK(table.find(strategy.name()) != std::string::npos);
}

TEST_CASE("a comparison that fails leaves nothing behind") {
  toy::Backend model{ElementType::f16};
  MemoryStore inner;
  const std::vector<AnyStrategy> strategies = {strategy::load(F16Codec{}), strategy::load(Int8Codec{})};
  for (std::size_t writes = 0; writes < 4; ++writes) {
    FaultyStore store(inner, {{.operation = Fault::Operation::put, .first = writes, .code = ErrorCode::no_space}});
    CHECK_FALSE(eval::compare(model, toy_texts(), store, strategies));
    CHECK(inner.used() == 0);
  }
}

TEST_CASE("a comparison of nothing is the caller's mistake") {
  toy::Backend model{ElementType::f16};
  MemoryStore store;
  const std::vector<AnyStrategy> one = {strategy::load(F16Codec{})};
  CHECK_THROWS_AS((void)eval::compare(model, {}, store, one), PreconditionError);
  CHECK_THROWS_AS((void)eval::compare(model, toy_texts(), store, {}), PreconditionError);
  for (const std::vector<eval::ComparedText>& texts :
       {std::vector<eval::ComparedText>{{{}, {1, 2}}}, std::vector<eval::ComparedText>{{{1, 2}, {3}}}})
    CHECK_THROWS_AS((void)eval::compare(model, texts, store, one), PreconditionError);
}

}  // namespace
}  // namespace krul
