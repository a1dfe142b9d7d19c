#include <optional>
#include <string>

#include "all_runs.hpp"
#include "escaped.hpp"
#include "evaluate.hpp"
#include "krul/eval/by_source.hpp"
#include "krul/eval/quality.hpp"
#include "krul/eval/result_table.hpp"

namespace krul::cli {
namespace {

constexpr std::size_t longest_prompt = 32;

/// How long greedy texts stay those of the exact state. A text that never differs counts as the most that was asked
/// for, however soon both have ended.
struct GreedyTotals {
  std::vector<double> same;  ///< [conversations] tokens
  std::size_t never = 0;
  double bytes = 0, rows = 0;

  void add(std::optional<std::size_t> difference, std::size_t most, double stored, double stored_rows) {
    same.push_back(static_cast<double>(difference.value_or(most)));
    never += difference ? 0 : 1;
    bytes += stored;
    rows += stored_rows;
  }
};

Json greedy_figures(const GreedyTotals& totals, double f16) {
  return {{"bytes_per_token", totals.bytes / totals.rows},
          {"ratio_to_f16", f16 * totals.rows / totals.bytes},
          {"same_mean", eval::mean(totals.same)},
          {"same_q1", eval::quantile(totals.same, 0.25)},
          {"same_median", eval::median(totals.same)},
          {"same_q3", eval::quantile(totals.same, 0.75)},
          {"never_differs", static_cast<double>(totals.never) / static_cast<double>(totals.same.size())},
          {"conversations", totals.same.size()}};
}

struct GreedyOutcome {
  std::string name;
  eval::BySource<GreedyTotals> totals = {};
  Json by_conversation = Json::array();
};

std::string greedy_table(const Json& rows, const EvaluateOptions& options) {
  using eval::cell;
  constexpr auto left = eval::ResultTable::Align::left;
  eval::ResultTable table({{"strategy", "", left},
                           {"data", "", left},
                           {"talks"},
                           {"ratio", "to f16"},
                           {"same", "tokens, mean"},
                           {"same", "quartiles"},
                           {"never differs", "%"}});
  for_each_source(rows, [&](const std::string& name, const std::string& data, const Json& row) {
    const auto value = [&](const char* key) { return row[key].get<double>(); };
    table.add({name, escaped(data), cell(value("conversations"), 0), cell(value("ratio_to_f16"), 2),
               cell(value("same_mean"), 1),
               cell(value("same_q1"), 0) + " " + cell(value("same_median"), 0) + " " + cell(value("same_q3"), 0),
               cell(100 * value("never_differs"), 0)});
  });
  return table.text() + "\nhistory of up to " + std::to_string(options.history) + " tokens, a prompt of " +
         std::to_string(std::min(options.fresh, longest_prompt)) + ", then at most " + std::to_string(options.greedy) +
         " greedy tokens\n";
}

}  // namespace

void evaluate_greedy(Evaluation& run) {
  CpuModel& model = run.model.backend;
  const std::size_t most = run.options.greedy;
  const auto cases = cut_texts(run);
  std::vector<GreedyOutcome> outcomes;
  for (const auto& name : names_of_runs(run)) outcomes.push_back({name});

  for (std::size_t i = 0; i < cases.size(); ++i) {
    const CutText& item = cases[i];
    run.progress("conversation", i, cases.size(), item.id);
    const auto prompt = item.fresh().first(std::min(item.fresh().size(), longest_prompt));
    const auto asked = std::span(item.all).first(item.history + prompt.size());
    auto exact = eval::prefill_exact(model, item.before(), prompt.size() + most, run.strategies);
    const auto reference = go_on_from(model, exact.cache, prompt, most, GreedyChoice(run.model.tokenizer));
    exact.cache.truncate(item.history);
    for_each_run(run, [&](std::size_t index, auto&& state) {
      unwrap(state.save(exact, item.before()));
      const auto difference =
          eval::first_difference(reference, unwrap(state.go_on(asked, most, GreedyChoice(run.model.tokenizer))));
      const auto bytes = static_cast<double>(state.stored_bytes()), rows = static_cast<double>(state.stored_rows());
      outcomes[index].totals.add(item.source, difference, most, bytes, rows);
      outcomes[index].by_conversation.push_back({{"id", item.id},
                                                 {"source", item.source},
                                                 {"history", item.history},
                                                 {"bytes_per_token", bytes / rows},
                                                 {"same", difference ? Json(*difference) : Json(nullptr)}});
    });
  }

  const auto f16 = static_cast<double>(model.geometry().f16_token_bytes());
  Json rows = Json::array();
  for (const auto& outcome : outcomes) {
    rows.push_back(figures_by_source(outcome.name, outcome.totals,
                                     [f16](const GreedyTotals& t) { return greedy_figures(t, f16); }));
    rows.back()["by_conversation"] = outcome.by_conversation;
  }
  print_evaluation(run, {.strategies = rows,
                         .csv = rows_by_source(run, rows),
                         .more = {{"history", run.options.history},
                                  {"prompt", std::min(run.options.fresh, longest_prompt)},
                                  {"greedy", most}},
                         .table = greedy_table(rows, run.options)});
}

}  // namespace krul::cli
