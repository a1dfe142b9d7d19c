#include <cmath>
#include <string>

#include "all_runs.hpp"
#include "escaped.hpp"
#include "evaluate.hpp"
#include "krul/eval/answers.hpp"
#include "krul/eval/by_source.hpp"
#include "krul/eval/result_table.hpp"
#include "krul/model/model_chat.hpp"
#include "quality_rows.hpp"

namespace krul::cli {
namespace {

/// A task in tokens. The text is given in one turn and the conversation goes idle; the user comes back with the
/// question.
struct Case {
  std::string id, source;
  std::vector<Token> history, question, answer;
  std::vector<Token> alone;  ///< the question as the beginning of a conversation

  /// What follows a history: the question, then all of the answer that is followed by more of it.
  [[nodiscard]] static std::vector<Token> asked(std::span<const Token> question, std::span<const Token> answer) {
    std::vector<Token> tokens(question.begin(), question.end());
    tokens.insert(tokens.end(), answer.begin(), answer.end() - 1);
    return tokens;
  }
  [[nodiscard]] std::vector<Token> all() const {
    std::vector<Token> tokens = history;
    const auto rest = asked(question, answer);
    tokens.insert(tokens.end(), rest.begin(), rest.end());
    return tokens;
  }
};

Case encode_task(const LoadedModel& model, const TaskText& text) {
  const std::vector<Message> history = {
      {"user", "Here is a text. I will come back with a question about it.\n\n" + text.context},
      {"assistant", "I have read the text."}};
  const Message question{"user", text.question};
  const ChatFormat& chat = chat_format(model);
  return {.id = text.id,
          .source = text.source,
          .history = encode_messages(model, history, false),
          .question = model.tokenizer.encode(chat.render_user_turn(text.question).quote(text.lead)),
          .answer = model.tokenizer.encode(text.answer, Tokenizer::Special::as_text),
          .alone = encode_conversation(model.tokenizer,
                                       unwrap(chat.render(std::span(&question, 1), true)).quote(text.lead))};
}

std::vector<Case> encode_cases(const Evaluation& run) {
  std::vector<Case> cases;
  PerSource limit(run.options.limit);
  for (const auto& text : load_tasks(run.options.tasks)) {
    auto item = encode_task(run.model, text);
    const bool fits = item.all().size() <= run.model.backend.geometry().context;
    if (fits && !item.answer.empty() && limit.take(item.source)) cases.push_back(std::move(item));
  }
  if (cases.empty())
    throw Failure({ErrorCode::invalid_argument, "no task fits the model's context of " +
                                                    std::to_string(run.model.backend.geometry().context) + " tokens"});
  return cases;
}

struct TaskTotals {
  eval::TaskTotals tasks;
  double bytes = 0, tokens = 0;
  void add(const eval::TaskScore& score, const StrategyRun& state) {
    tasks.add(score);
    bytes += static_cast<double>(state.stored_bytes());
    tokens += static_cast<double>(state.stored_rows());
  }
};

Json tasks_figures(const TaskTotals& totals, double f16) {
  const auto found = totals.tasks.summary();
  const auto if_any = [&](double value) { return found.counted == 0 ? Json(nullptr) : finite_or_null(value); };
  const double bytes = totals.bytes / totals.tokens;
  return {{"bytes_per_token", bytes},
          {"ratio_to_f16", f16 / bytes},
          {"tasks", found.tasks},
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
          {"match_without", if_any(found.match_without)}};
}

struct TaskOutcome {
  AnyStrategy strategy;
  eval::BySource<TaskTotals> totals;
  Json by_task = Json::array();
};

std::string tasks_table(const Json& rows) {
  using eval::cell;
  constexpr auto left = eval::ResultTable::Align::left;
  eval::ResultTable table({{"strategy", "", left},
                           {"data", "", left},
                           {"tasks", "counted"},
                           {"ratio", "to f16"},
                           {"exact", "nats a token"},
                           {"restored"},
                           {"without"},
                           {"difference", "%"},
                           {"benefit", "kept"},
                           {"match", "exact"},
                           {"match", "restored"},
                           {"match", "without"}});
  for_each_source(rows, [&](const std::string& name, const std::string& data, const Json& row) {
    const auto value = [&](const char* key) { return row[key].is_null() ? std::nan("") : row[key].get<double>(); };
    table.add({name, escaped(data), cell(value("counted"), 0) + " of " + cell(value("tasks"), 0),
               cell(value("ratio_to_f16"), 2), cell(value("loglik_exact"), 3), cell(value("loglik"), 3),
               cell(value("loglik_without"), 3), cell(100 * value("relative_difference"), 2), cell(value("benefit"), 4),
               cell(value("match_exact"), 2), cell(value("match"), 2), cell(value("match_without"), 2)});
  });
  return table.text() + "\nlog-likelihood of the gold answer; a task counts if the exact state makes it at least " +
         cell(eval::TaskRule{}.least_gain) + " nats a token likelier than no history does\n";
}

}  // namespace

void evaluate_tasks(Evaluation& run) {
  CpuModel& model = run.model.backend;
  const auto cases = encode_cases(run);
  std::vector<TaskOutcome> outcomes;
  for (const auto& strategy : run.strategies) outcomes.push_back({strategy, {}});

  for (std::size_t i = 0; i < cases.size(); ++i) {
    const Case& item = cases[i];
    run.progress("task", i, cases.size(), item.id);
    const std::size_t rows = item.answer.size();
    const auto fresh = Case::asked(item.question, item.answer);
    const auto alone = Case::asked(item.alone, item.answer);
    const auto all = item.all();
    auto exact = eval::prefill_exact(model, item.history, fresh.size(), run.strategies);
    eval::TaskScore score;
    score.exact = eval::score_answer(logits_after(model, exact.cache, fresh, rows), item.answer);
    exact.cache.truncate(item.history.size());
    auto empty = eval::prefill_exact(model, {}, alone.size());
    score.without = eval::score_answer(logits_after(model, empty.cache, alone, rows), item.answer);
    for (auto& outcome : outcomes) {
      StrategyRun state(model, outcome.strategy, run.costs_for(outcome.strategy));
      unwrap(state.save(exact, item.history));
      score.restored = eval::score_answer(unwrap(state.resume(all, rows)), item.answer);
      outcome.totals.add(item.source, score, state);
      outcome.by_task.push_back({{"id", item.id},
                                 {"source", item.source},
                                 {"history", item.history.size()},
                                 {"answer_tokens", rows},
                                 {"counts", eval::TaskRule{}.counts(score)},
                                 {"loglik_exact", finite_or_null(score.exact.log_likelihood)},
                                 {"loglik", finite_or_null(score.restored.log_likelihood)},
                                 {"loglik_without", finite_or_null(score.without.log_likelihood)},
                                 {"match_exact", score.exact.greedy},
                                 {"match", score.restored.greedy}});
    }
  }

  const auto f16 = static_cast<double>(model.geometry().f16_token_bytes());
  Json rows = Json::array();
  for (const auto& outcome : outcomes) {
    Json row = figures_by_source(outcome.strategy.name(), outcome.totals,
                                 [f16](const TaskTotals& totals) { return tasks_figures(totals, f16); });
    row["by_task"] = outcome.by_task;
    rows.push_back(std::move(row));
  }
  print_evaluation(run, {.strategies = rows,
                         .csv = rows_by_source(run, rows),
                         .more = {{"least_gain", eval::TaskRule{}.least_gain}},
                         .table = tasks_table(rows)});
}

}  // namespace krul::cli
