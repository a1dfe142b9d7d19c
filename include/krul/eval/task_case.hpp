#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "krul/eval/answers.hpp"
#include "krul/eval/contenders.hpp"
#include "krul/eval/task_text.hpp"
#include "krul/model/chat_format.hpp"
#include "krul/model/tokenizer.hpp"

namespace krul::eval {

/// A TaskText in tokens. The text is given in one turn and the conversation goes idle; the user comes back with the
/// question.
struct TaskCase {
  std::string id, source;
  std::vector<Token> history, question, answer;
  std::vector<Token> alone;  ///< the question as the beginning of a conversation

  /// What follows a history: the question, then all of the answer that is followed by more of it.
  [[nodiscard]] static std::vector<Token> asked(std::span<const Token> question, std::span<const Token> answer) {
    std::vector<Token> tokens(question.begin(), question.end());
    tokens.insert(tokens.end(), answer.begin(), answer.end() - (answer.empty() ? 0 : 1));
    return tokens;
  }
  [[nodiscard]] std::vector<Token> all() const {
    std::vector<Token> tokens = history;
    const auto rest = asked(question, answer);
    tokens.insert(tokens.end(), rest.begin(), rest.end());
    return tokens;
  }
};

/// @return what the chat format says, if it cannot render the turns
[[nodiscard]] Result<TaskCase> encode_task(const Tokenizer& tokenizer, const ChatFormat& chat, const TaskText& text);

/// One task under one strategy.
struct TaskReturn {
  TaskScore score;
  StoredSize stored;
};

/// The same, over tasks.
struct TaskReturns {
  TaskTotals tasks;
  StoredSize stored;
  void add(const TaskReturn& task) {
    tasks.add(task.score);
    stored.add(task.stored);
  }
};

/// Saves a task's history under each contender and brings it back with the question: how likely the gold answer is
/// then, if nothing was interrupted, and without the text.
/// @return [contenders]; the first error of a save or a restore
/// @throws PreconditionError if history, question or answer is empty; NotFiniteError if the model's numbers are not
///         finite
template <ModelBackend B>
[[nodiscard]] Result<std::vector<TaskReturn>> evaluate_task(const Contenders<B>& contenders, const TaskCase& task) {
  expects(!task.history.empty() && !task.question.empty() && !task.answer.empty(),
          "evaluate_task: a history, a question and an answer");
  const std::size_t rows = task.answer.size();
  const auto fresh = TaskCase::asked(task.question, task.answer), alone = TaskCase::asked(task.alone, task.answer);
  const auto all = task.all();
  auto exact = contenders.exact(task.history, fresh.size(), fresh);
  TaskScore score;
  score.exact = score_answer(logits_after(contenders.model(), exact.cache, fresh, rows), task.answer);
  exact.cache.truncate(task.history.size());
  score.without = score_answer(logits_of(contenders.model(), std::span<const Token>(alone), rows), task.answer);
  std::vector<TaskReturn> found;
  auto status = contenders.for_each([&](auto& run) -> Status {
    if (auto saved = run.save(exact, task.history); !saved) return saved;
    const auto logits = run.resume(all, rows);
    if (!logits) return propagate(logits);
    score.restored = score_answer(*logits, task.answer);
    found.push_back({score, StoredSize::of(run)});
    return {};
  });
  if (!status) return propagate(status);
  return found;
}

}  // namespace krul::eval
