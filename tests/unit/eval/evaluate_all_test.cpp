#include "krul/eval/evaluate_all.hpp"
#include "krul/compress/exact_codec.hpp"
#include "krul/compress/int4_codec.hpp"

#include <doctest/doctest.h>

#include <variant>

#include "krul/strategy/catalogue/all.hpp"
#include "support/toy_conversation.hpp"

namespace krul::eval {
namespace {

using test::toy_tokens;
using Rows = StrategyRun<toy::Backend>::Rows;

Contenders<toy::Backend> two_contenders(toy::Backend& model) {
  return {model, {strategy::load(ExactCodec{}), strategy::load(Int4Codec{})}, [](const AnyStrategy&) {
            return std::nullopt;
          }};
}

double number(const Figures& figures, std::string_view name) {
  return std::get<double>(value_of(figures, name));
}

std::uint64_t count(const Figures& figures, std::string_view name) {
  return std::get<std::uint64_t>(value_of(figures, name));
}

const auto silent = [](std::size_t, const auto&) {};

TEST_CASE("all cases of two sources: totals, sources and single cases, each contender by its name") {
  toy::Backend model;
  const auto contenders = two_contenders(model);
  const std::vector<CutText> cases = {
      {"1", "a", toy_tokens(60, 1), 50}, {"2", "b", toy_tokens(60, 2), 50}, {"3", "a", toy_tokens(60, 3), 50}};
  std::vector<std::string> begun;
  const auto names = contenders.names();
  const auto found = evaluate_all(names, cases, quality_protocol(contenders), [&](std::size_t i, const CutText& text) {
    begun.push_back(std::to_string(i) + text.id);
  });
  REQUIRE(found);
  CHECK(begun == std::vector<std::string>{"01", "12", "23"});
  REQUIRE(found->size() == 2);
  const EvaluatedContender &exact = found->front(), &coded = found->back();
  CHECK(exact.name == "load-exact");
  CHECK(count(exact.all, "conversations") == 3);
  CHECK(number(exact.all, "kl") == 0);
  CHECK(number(coded.all, "kl") > 0);
  REQUIRE(coded.by_source.size() == 2);
  CHECK(coded.by_source[0].first == "a");
  CHECK(count(coded.by_source[0].second, "conversations") == 2);
  CHECK(count(coded.by_source[1].second, "conversations") == 1);
  REQUIRE(coded.cases.size() == 3);
  CHECK(coded.cases[2].id == "3");
  CHECK(coded.cases[1].source == "b");
  CHECK(number(coded.cases[1].figures, "kl") == doctest::Approx(number(coded.by_source[1].second, "kl")));

  const auto greedy =
      evaluate_all(names, cases, greedy_protocol(contenders, {.prompt = 4, .most = 6, .ends = {}}), silent);
  REQUIRE(greedy);
  CHECK(number(greedy->front().all, "never_differs") == 1);
  CHECK(value_of(greedy->front().cases[0].figures, "same") == FigureValue());

  CHECK_THROWS_AS(static_cast<void>(evaluate_all(names, std::vector<CutText>(), quality_protocol(contenders), silent)),
                  PreconditionError);
  const std::vector<std::string> one = {"load-exact"};
  CHECK_THROWS_AS(static_cast<void>(evaluate_all(one, cases, quality_protocol(contenders), silent)), PreconditionError);
}

TEST_CASE("tasks are told what counts, and the first error of a case ends it") {
  toy::Backend model;
  const auto contenders = two_contenders(model);
  const TaskCase task{"t", "s", toy_tokens(40, 1), toy_tokens(5, 2), toy_tokens(3, 3), toy_tokens(6, 4)};
  const auto names = contenders.names();
  const std::vector<TaskCase> tasks = {task};
  auto protocol = task_protocol(contenders);
  const auto found = evaluate_all(names, tasks, protocol, silent);
  REQUIRE(found);
  CHECK(count(found->front().all, "tasks") == 1);
  CHECK(count(found->front().cases[0].figures, "answer_tokens") == 3);
  const bool counts = std::get<bool>(value_of(found->front().cases[0].figures, "counts"));
  CHECK(count(found->front().all, "counted") == (counts ? 1 : 0));
  CHECK(std::holds_alternative<std::monostate>(value_of(found->front().all, "benefit")) == !counts);
  protocol.evaluate = [](const TaskCase&) -> Result<std::vector<TaskReturn>> { return fail(ErrorCode::io, "broken"); };
  const auto broken = evaluate_all(names, tasks, protocol, silent);
  REQUIRE_FALSE(broken);
  CHECK(broken.error().code == ErrorCode::io);
}

TEST_CASE("models beside an exact one: the same one says the same, and single cases are not told") {
  toy::Backend exact, same;
  const std::vector<CutText> cases = {{"1", "a", toy_tokens(60, 1), 50}};
  const std::vector<std::string> names = {"same"};
  const auto found = evaluate_all(names, cases, models_protocol(exact, {&same}), silent);
  REQUIRE(found);
  CHECK(number(found->front().all, "kl") == 0);
  CHECK(count(found->front().all, "tokens") == 9);
  CHECK(found->front().cases.empty());
  CHECK_THROWS_AS(static_cast<void>(value_of(found->front().all, "history_benefit")), PreconditionError);
}

TEST_CASE("all texts turn by turn: each turn but the first, which has no history") {
  toy::Backend model;
  const auto contenders = two_contenders(model);
  const std::vector<TokenText> texts = {{"1", "a", toy_tokens(90, 1)}, {"2", "a", toy_tokens(60, 2)}};
  const auto found = evaluate_all_turns(contenders, texts, {.turns = 3}, Rows::append, silent);
  REQUIRE(found);
  REQUIRE(found->size() == 2);
  CHECK((*found)[1].name == "load-int4");
  for (const EvaluatedTurns& each : *found) {
    REQUIRE(each.turns.size() == 2);
    CHECK(count(each.turns[0], "conversations") == 2);
  }
  CHECK(number((*found)[0].turns[1], "kl") == 0);
  CHECK(number((*found)[1].turns[1], "kl") > 0);
  CHECK_THROWS_AS(static_cast<void>(evaluate_all_turns(contenders, {}, {.turns = 3}, Rows::append, silent)),
                  PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(evaluate_all_turns(contenders, texts, {.turns = 31}, Rows::append, silent)),
                  PreconditionError);
}

}  // namespace
}  // namespace krul::eval
