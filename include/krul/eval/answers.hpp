#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/core/tokens.hpp"
#include "krul/eval/mean_interval.hpp"
#include "krul/eval/quality.hpp"
#include "krul/eval/statistics.hpp"

namespace krul::eval {

/// How one state takes to the gold answer of a question.
struct AnswerScore {
  std::size_t tokens = 0;     ///< of the answer
  double log_likelihood = 0;  ///< of the whole answer, nats; -infinity if the pass is broken
  bool greedy = false;        ///< greedy decoding gives just this answer, token for token
  [[nodiscard]] double per_token() const { return log_likelihood / static_cast<double>(tokens); }
};

/// @param logits  [answer tokens, vocabulary]: row i is what follows the question and the first i tokens of the answer
/// @param answer  [answer tokens]
/// @throws        PreconditionError if there is no answer, the rows are not whole, or a token is outside the vocabulary
[[nodiscard]] inline AnswerScore score_answer(std::span<const float> logits, std::span<const Token> answer) {
  expects(!answer.empty() && !logits.empty() && logits.size() % answer.size() == 0,
          "score_answer: one row of logits for each token of the answer");
  const std::size_t vocabulary = logits.size() / answer.size();
  AnswerScore score{answer.size(), 0, true};
  for (std::size_t row = 0; row < answer.size(); ++row) {
    const NextToken next(logits.subspan(row * vocabulary, vocabulary));
    score.log_likelihood += next.log_probability(answer[row]);
    // Greedy decoding sees the same rows as long as it has followed the answer so far.
    score.greedy = score.greedy && next.finite() && next.top() == answer[row];
  }
  return score;
}

/// One task under one strategy.
struct TaskScore {
  AnswerScore exact;     ///< with the state that was never saved
  AnswerScore restored;  ///< with the state under test
  AnswerScore without;   ///< with the question alone
};

/// Which tasks say something about a restored history: those that a model answers clearly better with it.
struct TaskRule {
  double least_gain = 0.5;  ///< nats a token that the exact state is better than no history
  [[nodiscard]] bool counts(const TaskScore& score) const {
    return score.exact.per_token() - score.without.per_token() >= least_gain;
  }
};

/// One strategy over the tasks that count. Log-likelihoods are nats per token of the answer, each task weighing the
/// same.
struct TaskSummary {
  std::size_t tasks = 0;    ///< all that were asked
  std::size_t counted = 0;  ///< those that count; the rest of this is about them, and zero if there are none
  double exact = 0, restored = 0, without = 0;  ///< mean log-likelihood of the gold answer
  double relative_difference = 0;               ///< (restored - exact) / |exact|: below zero is worse
  Interval difference = {};  ///< restored - exact: 95 % interval of its mean over tasks, nats a token
  double worst_difference = 0;
  double benefit = 0;                                    ///< (restored - without) / (exact - without)
  double match_exact = 0, match = 0, match_without = 0;  ///< share of tasks whose greedy answer is the gold one
};

/// Collects the tasks of one strategy.
class TaskTotals {
 public:
  TaskTotals() = default;
  explicit TaskTotals(TaskRule rule) : rule_(rule) {}

  /// @throws PreconditionError if the three did not score the same answer
  void add(const TaskScore& score) {
    expects(score.exact.tokens > 0 && score.exact.tokens == score.restored.tokens &&
                score.exact.tokens == score.without.tokens,
            "TaskTotals: the scores of one answer");
    ++tasks_;
    if (rule_.counts(score)) counted_.push_back(score);
  }

  [[nodiscard]] TaskSummary summary() const {
    TaskSummary found{.tasks = tasks_, .counted = counted_.size()};
    if (counted_.empty()) return found;
    std::vector<double> differences;
    for (const auto& score : counted_) {
      found.exact += score.exact.per_token();
      found.restored += score.restored.per_token();
      found.without += score.without.per_token();
      found.match_exact += score.exact.greedy ? 1 : 0;
      found.match += score.restored.greedy ? 1 : 0;
      found.match_without += score.without.greedy ? 1 : 0;
      differences.push_back(score.restored.per_token() - score.exact.per_token());
    }
    for (double* sum :
         {&found.exact, &found.restored, &found.without, &found.match_exact, &found.match, &found.match_without})
      *sum /= static_cast<double>(counted_.size());
    found.difference = mean_interval(differences);
    found.worst_difference = quantile(differences, 0);
    found.relative_difference = (found.restored - found.exact) / std::abs(found.exact);
    found.benefit = (found.restored - found.without) / (found.exact - found.without);
    return found;
  }

 private:
  TaskRule rule_;
  std::size_t tasks_ = 0;
  std::vector<TaskScore> counted_;
};

}  // namespace krul::eval
