#include "krul/eval/evaluate_return.hpp"
#include "krul/compress/exact_codec.hpp"
#include "krul/compress/int4_codec.hpp"

#include <doctest/doctest.h>

#include <limits>

#include "krul/eval/turns.hpp"
#include "krul/strategy/catalogue/all.hpp"
#include "support/toy_conversation.hpp"
#include "support/toy_profile.hpp"

namespace krul::eval {
namespace {

using test::toy_tokens;

CutText toy_text(unsigned seed) {
  return {"t", "source", toy_tokens(160, seed), 140};
}

/// Bit for bit, with a codec's error, with tokens forgotten, and by a published coder.
Contenders<toy::Backend> toy_contenders(toy::Backend& model) {
  const auto costs = [](const AnyStrategy&) {
    return Costs{.link = {.bytes_per_s = 1e6}, .layer = {.project_row_s = 1e-4, .finish_row_s = 1e-4}};
  };
  return {model,
          {strategy::load(ExactCodec{}), strategy::load(Int4Codec{}), strategy::H2o{}},
          costs,
          {PeerCoder(Q40Coder{})}};
}

const std::function<bool(Token)> never_ends = [](Token) { return false; };

TEST_CASE("contenders are strategies, then published coders") {
  toy::Backend model;
  const auto contenders = toy_contenders(model);
  CHECK(contenders.names() == std::vector<std::string>{"load-exact", "load-int4", "h2o", "q4_0"});
  CHECK(contenders.runs().size() == 3);
  // What the strategies need is gathered.
  const auto exact = contenders.exact(toy_tokens(100), 5);
  CHECK(exact.masses.has_value());
  CHECK(exact.cache.capacity() == 105);
  // The first error ends it.
  std::size_t calls = 0;
  const auto status = contenders.for_each([&](auto&) -> Status {
    ++calls;
    return fail(ErrorCode::io, "broken");
  });
  CHECK_FALSE(status);
  CHECK(calls == 1);
}

TEST_CASE("an oracle knows what each row will receive of the tokens that come") {
  toy::Backend model;
  const auto oracle = strategy::coded_at_step({-4}, test::toy_profile(model), strategy::FinerRows::oracle);
  const Contenders<toy::Backend> contenders(model, std::vector<AnyStrategy>{oracle, strategy::H2o{4}},
                                            [](const AnyStrategy&) { return std::optional<Costs>(); });
  const CutText text = toy_text(3);
  const auto exact = contenders.exact(text.before(), text.fresh().size(), text.fresh());
  CHECK(exact.cache.length() == text.history);
  // The same of all rows at once.
  const RowAttention& found = exact.coming_attention;
  std::vector<double> squares(found.bands() * text.history);
  std::vector<std::size_t> band_of;
  for (std::size_t band = 0; band < found.bands(); ++band) band_of.insert(band_of.end(), found.band_layers[band], band);
  auto cache = model.make_cache(text.all.size());
  auto batch = model.make_batch();
  const auto sum = [&](const AttentionBlock& block) {
    for (std::size_t head = 0; head < block.query_heads; ++head)
      for (std::size_t row = 0; row < block.queries.size(); ++row)
        for (std::size_t key = 0; key < text.history && block.queries[row] >= text.history; ++key) {
          const double weight = block.weights[(head * block.queries.size() + row) * block.keys + key];
          squares[band_of[block.layer] * text.history + key] += weight * weight;
        }
  };
  forward(model, cache, batch, std::span<const Token>(text.all), std::span<float>{}, sum);
  CHECK(found.counted == static_cast<double>(text.fresh().size()));
  REQUIRE(found.squares.size() == squares.size());
  // A square in float is within one rounding, and so is each of the additions; weights differ by how passes are cut.
  const double additions =
      static_cast<double>(text.fresh().size() * model.geometry().query_heads * model.geometry().layers);
  for (std::size_t i = 0; i < squares.size(); ++i)
    CHECK(found.squares[i] ==
          doctest::Approx(squares[i]).epsilon(2 * additions * std::numeric_limits<float>::epsilon()));

  const auto qualities = evaluate_quality(contenders, text);
  REQUIRE(qualities);
  const double f16_bytes = static_cast<double>(text.history * model.geometry().f16_token_bytes());
  CHECK(qualities->back().stored.bytes > f16_bytes / 4);  // a quarter of the tokens, and the manifest
  CHECK(qualities->back().stored.bytes < f16_bytes / 2);
}

TEST_CASE("quality of a return, and its bytes") {
  toy::Backend model;
  const auto contenders = toy_contenders(model);
  const CutText text = toy_text(3);
  const auto found = evaluate_quality(contenders, text);
  REQUIRE(found);
  REQUIRE(found->size() == 4);
  std::vector<QualityOfReturns> totals(4);
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK((*found)[i].tokens.size() == text.fresh().size() - 1);
    CHECK((*found)[i].stored.rows == 140);
    for (const TokenQuality& token : (*found)[i].tokens) CHECK(token.nll_without_history.has_value());
    totals[i].add((*found)[i]);
    totals[i].add((*found)[i]);
  }
  const auto kl = [&](std::size_t i) { return totals[i].quality.summary().kl; };
  CHECK(kl(0) == 0);
  CHECK(kl(1) > 0);
  CHECK(kl(2) > kl(1));
  CHECK(kl(3) > 0);
  CHECK(totals[0].stored.rows == 280);
  CHECK(totals[1].stored.bytes_per_row() < totals[0].stored.bytes_per_row());
  CHECK_THROWS_AS(static_cast<void>(evaluate_quality(contenders, {"t", "s", toy_tokens(20), 19})), PreconditionError);
}

TEST_CASE("a greedy text goes on as that of the exact state where nothing is lost") {
  toy::Backend model;
  const auto contenders = toy_contenders(model);
  const auto found = evaluate_greedy(contenders, toy_text(5), {.prompt = 8, .most = 12, .ends = never_ends});
  REQUIRE(found);
  REQUIRE(found->size() == 4);
  CHECK_FALSE(found->front().difference.has_value());
  GreedyReturns totals;
  totals.add(found->front());
  totals.add({.difference = 3, .same = 3, .stored = {100, 10}});
  CHECK(totals.same == std::vector<double>{12, 3});
  CHECK(totals.never == 1);
  CHECK(totals.stored.rows == 150);
}

TEST_CASE("a text ends with the token that ends it") {
  toy::Backend model;
  const auto tokens = toy_tokens(50);
  const auto text_until = [&](std::function<bool(Token)> ends) {
    auto cache = model.make_cache(100);
    return go_on_from(model, cache, tokens, 10, GreedyChoice(std::move(ends)));
  };
  const auto whole = text_until(never_ends);
  CHECK(whole.size() == 10);
  const auto cut = text_until([&](Token token) { return token == whole[2]; });
  const auto first = std::ranges::find(whole, whole[2]) - whole.begin();
  CHECK(cut == std::vector<Token>(whole.begin(), whole.begin() + first + 1));
  auto cache = model.make_cache(50);
  const auto last = logits_after(model, cache, tokens, 1);
  CHECK(cache.length() == 50);
  CHECK(whole.front() == greedy(last));
}

TEST_CASE("turn by turn: what is exact stays so, the rest drifts from what nothing interrupts") {
  toy::Backend model;
  const Contenders<toy::Backend> contenders(model, {strategy::load(ExactCodec{}), strategy::load(Int4Codec{})},
                                            [](const AnyStrategy&) { return std::nullopt; });
  const auto text = toy_tokens(120, 9);
  using Rows = StrategyRun<toy::Backend>::Rows;
  for (const auto how : {Rows::append, Rows::rewrite}) {
    const auto found = evaluate_turns(contenders, text, equal_turns(text.size(), 3), how);
    REQUIRE(found);
    REQUIRE(found->size() == 3);
    for (std::size_t turn = 0; turn < 3; ++turn) {
      REQUIRE((*found)[turn].size() == 2);
      for (const auto& each : (*found)[turn]) {
        CHECK(each.tokens.size() == 39);
        CHECK(each.stored.rows == static_cast<double>(40 * (turn + 1)));
      }
      for (const TokenQuality& token : (*found)[turn][0].tokens) CHECK(token.kl == 0);
    }
    for (const TokenQuality& token : (*found)[0][1].tokens) CHECK(token.kl == 0);  // nothing was saved before
    QualityOfReturns last;
    last.add((*found)[2][1]);
    CHECK(last.quality.summary().kl > 0);
  }
  const std::vector<TokenRange> beyond = {{0, 200}}, narrow = {{0, 1}};
  CHECK_THROWS_AS(static_cast<void>(evaluate_turns(contenders, text, beyond, Rows::append)), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(evaluate_turns(contenders, text, narrow, Rows::append)), PreconditionError);
}

}  // namespace
}  // namespace krul::eval
