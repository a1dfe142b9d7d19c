#include "evaluate.hpp"

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

}  // namespace

void evaluate_tasks(Evaluation& run) {
  const auto contenders = run.contenders();
  const Json rows = evaluated(run, contenders.names(), "task", encode_cases(run), eval::task_protocol(contenders));
  const double least_gain = eval::TaskRule{}.least_gain;
  print_by_source(
      run, rows, {{"least_gain", least_gain}},
      {.columns =
           {{.keys = {"counted", "tasks"}, .title = "tasks", .unit = "counted", .decimals = 0, .between = " of "},
            {{"ratio_to_f16"}, "ratio", "to f16", 2},
            {{"loglik_exact"}, "exact", "nats a token", 3},
            {{"loglik"}, "restored", "", 3},
            {{"loglik_without"}, "without", "", 3},
            {{"relative_difference"}, "difference", "%", 2, 100},
            {{"benefit"}, "benefit", "kept", 4},
            {{"match_exact"}, "match", "exact", 2},
            {{"match"}, "match", "restored", 2},
            {{"match_without"}, "match", "without", 2}},
       .below = "log-likelihood of the gold answer; a task counts if the exact state makes it at least " +
                eval::cell(least_gain) + " nats a token likelier than no history does"});
}

}  // namespace krul::cli
