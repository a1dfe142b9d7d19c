#include "evaluate.hpp"
#include "krul/eval/task_case.hpp"

namespace krul::cli {
namespace {

std::vector<eval::TaskCase> encode_cases(const Evaluation& run) {
  const std::size_t context = run.model.backend.geometry().context;
  std::vector<eval::TaskCase> cases;
  eval::SourceLimit limit(run.options.limit);
  for (const auto& text : load_tasks(run.options.tasks)) {
    auto item = unwrap(eval::encode_task(run.model.tokenizer, chat_format(run.model), text));
    if (item.all().size() <= context && !item.answer.empty() && limit.take(item.source))
      cases.push_back(std::move(item));
  }
  if (cases.empty())
    throw Failure(
        {ErrorCode::invalid_argument, "no task fits the model's context of " + std::to_string(context) + " tokens"});
  return cases;
}

Json tasks_figures(const eval::TaskReturns& totals, double f16) {
  const auto found = totals.tasks.summary();
  const auto if_any = [&](double value) { return found.counted == 0 ? Json(nullptr) : finite_or_null(value); };
  Json figures = stored_figures(totals.stored, f16);
  figures.update({{"tasks", found.tasks},
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
  return figures;
}

Json task_figures(const eval::TaskCase& item, const eval::TaskReturn& found) {
  const eval::TaskScore& score = found.score;
  return {{"history", item.history.size()},
          {"answer_tokens", item.answer.size()},
          {"counts", eval::TaskRule{}.counts(score)},
          {"loglik_exact", finite_or_null(score.exact.log_likelihood)},
          {"loglik", finite_or_null(score.restored.log_likelihood)},
          {"loglik_without", finite_or_null(score.without.log_likelihood)},
          {"match_exact", score.exact.greedy},
          {"match", score.restored.greedy}};
}

std::string tasks_table(const Json& rows) {
  return table_by_source(
             rows, "strategy",
             {{.keys = {"counted", "tasks"}, .title = "tasks", .unit = "counted", .decimals = 0, .between = " of "},
              {{"ratio_to_f16"}, "ratio", "to f16", 2},
              {{"loglik_exact"}, "exact", "nats a token", 3},
              {{"loglik"}, "restored", "", 3},
              {{"loglik_without"}, "without", "", 3},
              {{"relative_difference"}, "difference", "%", 2, 100},
              {{"benefit"}, "benefit", "kept", 4},
              {{"match_exact"}, "match", "exact", 2},
              {{"match"}, "match", "restored", 2},
              {{"match_without"}, "match", "without", 2}}) +
         "\nlog-likelihood of the gold answer; a task counts if the exact state makes it at least " +
         eval::cell(eval::TaskRule{}.least_gain) + " nats a token likelier than no history does\n";
}

}  // namespace

void evaluate_tasks(Evaluation& run) {
  const auto contenders = run.contenders();
  const Protocol<eval::TaskReturns, eval::TaskCase, eval::TaskReturn> protocol{
      .what = "task",
      .evaluate = [&](const eval::TaskCase& task) { return eval::evaluate_task(contenders, task); },
      .figures = [&](const eval::TaskReturns& totals) { return tasks_figures(totals, run.f16()); },
      .of_case = task_figures};
  const Json rows = evaluated(run, contenders.names(), encode_cases(run), protocol);
  print_evaluation(run, {.strategies = rows,
                         .csv = rows_by_source(run, rows),
                         .more = {{"least_gain", eval::TaskRule{}.least_gain}},
                         .table = tasks_table(rows)});
}

}  // namespace krul::cli
