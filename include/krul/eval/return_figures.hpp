#pragma once

#include <array>
#include <cstddef>
#include <string_view>

#include "krul/eval/evaluate_return.hpp"
#include "krul/eval/figures.hpp"
#include "krul/eval/task_case.hpp"

namespace krul::eval {

/// "bytes_per_token", "ratio_to_f16"
/// @param f16_bytes  of a token at two bytes a value
[[nodiscard]] inline Figures figures_of(const StoredSize& stored, double f16_bytes) {
  return {{"bytes_per_token", stored.bytes_per_row()}, {"ratio_to_f16", f16_bytes / stored.bytes_per_row()}};
}

/// How far predictions are from the exact ones.
[[nodiscard]] inline Figures figures_of(const QualitySummary& quality) {
  return {{"delta_nll", quality.delta_nll},
          {"kl", quality.kl},
          {"kl_p95", quality.kl_p95},
          {"kl_worst", quality.kl_worst},
          {"kl_q1", quality.kl_quartiles[0]},
          {"kl_median", quality.kl_quartiles[1]},
          {"kl_q3", quality.kl_quartiles[2]},
          {"kl_low", finite_or_nothing(quality.kl_interval.low)},
          {"kl_high", finite_or_nothing(quality.kl_interval.high)},
          {"history_benefit", value_or_nothing(quality.history_benefit)},
          {"top1", quality.top1},
          {"conversations", quality.conversations},
          {"tokens", quality.tokens}};
}

/// The same without what is about a history, or about many conversations.
[[nodiscard]] inline Figures short_figures_of(const QualitySummary& quality) {
  static constexpr std::array<std::string_view, 4> left_out = {"kl_q1", "kl_median", "kl_q3", "history_benefit"};
  return without(figures_of(quality), left_out);
}

[[nodiscard]] inline Figures figures_of(const QualityOfReturns& totals, double f16_bytes) {
  return joined(figures_of(totals.stored, f16_bytes), figures_of(totals.quality.summary()));
}

/// How long greedy texts stay those of the exact state.
/// @throws PreconditionError if there is no conversation
[[nodiscard]] inline Figures figures_of(const GreedyReturns& totals, double f16_bytes) {
  return joined(figures_of(totals.stored, f16_bytes),
                {{"same_mean", mean(totals.same)},
                 {"same_q1", quantile(totals.same, 0.25)},
                 {"same_median", median(totals.same)},
                 {"same_q3", quantile(totals.same, 0.75)},
                 {"never_differs", static_cast<double>(totals.never) / static_cast<double>(totals.same.size())},
                 {"conversations", totals.same.size()}});
}

/// How likely the answers are; nothing but how many there are where no task counts.
[[nodiscard]] inline Figures figures_of(const TaskReturns& totals, double f16_bytes) {
  const TaskSummary found = totals.tasks.summary();
  const auto if_any = [&](double value) { return found.counted == 0 ? FigureValue() : finite_or_nothing(value); };
  return joined(figures_of(totals.stored, f16_bytes), {{"tasks", found.tasks},
                                                       {"counted", found.counted},
                                                       {"loglik_exact", if_any(found.exact)},
                                                       {"loglik", if_any(found.restored)},
                                                       {"loglik_without", if_any(found.without)},
                                                       {"relative_difference", if_any(found.relative_difference)},
                                                       {"difference_low", if_any(found.difference.low)},
                                                       {"difference_high", if_any(found.difference.high)},
                                                       {"worst_difference", if_any(found.worst_difference)},
                                                       {"benefit", if_any(found.benefit)},
                                                       {"match_exact", if_any(found.match_exact)},
                                                       {"match", if_any(found.match)},
                                                       {"match_without", if_any(found.match_without)}});
}

/// One conversation under one contender.
[[nodiscard]] inline Figures figures_of(const CutText& text, const ReturnQuality& found) {
  return {{"history", text.history}, {"bytes_per_token", found.stored.bytes_per_row()}, {"kl", mean_kl(found.tokens)}};
}

[[nodiscard]] inline Figures figures_of(const CutText& text, const GreedyReturn& found) {
  return {{"history", text.history},
          {"bytes_per_token", found.stored.bytes_per_row()},
          {"same", value_or_nothing(found.difference)}};
}

[[nodiscard]] inline Figures figures_of(const TaskCase& task, const TaskReturn& found) {
  const TaskScore& score = found.score;
  return {{"history", task.history.size()},
          {"answer_tokens", task.answer.size()},
          {"counts", TaskRule{}.counts(score)},
          {"loglik_exact", finite_or_nothing(score.exact.log_likelihood)},
          {"loglik", finite_or_nothing(score.restored.log_likelihood)},
          {"loglik_without", finite_or_nothing(score.without.log_likelihood)},
          {"match_exact", score.exact.greedy},
          {"match", score.restored.greedy}};
}

}  // namespace krul::eval
