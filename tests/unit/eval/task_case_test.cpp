#include "krul/eval/task_case.hpp"
#include "krul/compress/exact_codec.hpp"
#include "krul/compress/int4_codec.hpp"

#include <doctest/doctest.h>

#include "krul/model/model_chat.hpp"
#include "krul/strategy/catalogue/all.hpp"
#include "support/tiny_model.hpp"
#include "support/toy_conversation.hpp"

namespace krul::eval {
namespace {

TEST_CASE("a task in tokens: the text is one turn, the question the next") {
  const auto bytes = krul::testing::tiny_model({});
  const auto file = GgufFile::from_memory(bytes, "tiny.gguf").value();
  auto tokenizer = Tokenizer::from_gguf(file).value();
  const auto chat = chat_format_of(file, tokenizer, {}).value();
  const TaskText text{"q", "s", "Bean 1 is red.", "Which colour is bean 1?", "It is", " red"};
  const auto task = encode_task(tokenizer, chat, text);
  REQUIRE(task);
  CHECK(task->id == "q");
  CHECK(task->source == "s");
  CHECK(tokenizer.decode(task->answer) == " red");
  CHECK(tokenizer.decode(task->history).find("Bean 1 is red.") != std::string::npos);
  for (const auto& question : {task->question, task->alone})
    CHECK(tokenizer.decode(question).find("Which colour is bean 1?") != std::string::npos);
  // What begins a conversation, if the format has such a thing, stands before the question alone.
  CHECK(task->alone.size() >= task->question.size());
  // All of the answer that is followed by more of it is given.
  CHECK(task->all().size() == task->history.size() + task->question.size() + task->answer.size() - 1);
  CHECK(TaskCase::asked(task->question, {}) == task->question);
}

TEST_CASE("how likely the gold answer is under each contender") {
  toy::Backend model;
  const Contenders<toy::Backend> contenders(
      model, {strategy::recompute(), strategy::load(ExactCodec{}), strategy::load(Int4Codec{})},
      [](const AnyStrategy&) { return std::nullopt; });
  using test::toy_tokens;
  const TaskCase task{"q", "s", toy_tokens(100), toy_tokens(12, 3), toy_tokens(4, 5), toy_tokens(15, 7)};
  const auto found = evaluate_task(contenders, task);
  REQUIRE(found);
  REQUIRE(found->size() == 3);
  TaskReturns totals;
  for (const TaskReturn& each : *found) {
    CHECK(each.score.exact.tokens == 4);
    CHECK(each.score.exact.log_likelihood == found->front().score.exact.log_likelihood);
    CHECK(each.score.without.log_likelihood != each.score.exact.log_likelihood);
    CHECK(each.stored.rows == 100);
    totals.add(each);
  }
  CHECK((*found)[0].score.restored.log_likelihood == found->front().score.exact.log_likelihood);
  CHECK((*found)[1].score.restored.log_likelihood == found->front().score.exact.log_likelihood);
  CHECK((*found)[2].score.restored.log_likelihood != found->front().score.exact.log_likelihood);
  CHECK(totals.tasks.summary().tasks == 3);
  CHECK(totals.stored.rows == 300);
  CHECK_THROWS_AS(static_cast<void>(evaluate_task(contenders, {"q", "s", toy_tokens(9), toy_tokens(3), {}, {}})),
                  PreconditionError);
}

}  // namespace
}  // namespace krul::eval
