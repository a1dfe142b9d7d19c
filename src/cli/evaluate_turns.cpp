#include "evaluate.hpp"
#include "krul/eval/turns.hpp"

namespace krul::cli {
namespace {

struct TurnsOutcome {
  std::string name;
  std::vector<eval::QualityOfReturns> turns;  ///< [turns]; the first one has no history
};

Json outcome_json(const TurnsOutcome& outcome, double f16) {
  Json turns = Json::array();
  for (std::size_t turn = 1; turn < outcome.turns.size(); ++turn) {
    Json row = {{"turn", turn + 1}};
    row.update(stored_figures(outcome.turns[turn].stored, f16));
    row.update(quality_figures(outcome.turns[turn].quality.summary()));
    for (const auto* key : {"kl_q1", "kl_median", "kl_q3", "history_benefit"}) row.erase(key);
    turns.push_back(std::move(row));
  }
  return {{"name", outcome.name}, {"turns", turns}};
}

/// One row for each strategy and turn.
Json flat_rows(const Evaluation& run, const Json& strategies) {
  Json rows = Json::array();
  for (const auto& strategy : strategies)
    for (const auto& turn : strategy["turns"]) {
      Json row = {{"model", run.model.name},
                  {"strategy", strategy["name"]},
                  {"rows", run.options.rewrite ? "rewrite" : "append"},
                  {"turns", run.options.turns}};
      row.update(turn);
      rows.push_back(std::move(row));
    }
  return rows;
}

std::string turns_table(const Json& strategies, const EvaluateOptions& options) {
  using eval::cell;
  constexpr auto left = eval::ResultTable::Align::left;
  std::vector<eval::ResultTable::Column> columns = {{"turn"}};
  for (const auto& strategy : strategies)
    columns.push_back({strategy["name"].get<std::string>(), "KL, dNLL, ratio to f16", left});
  eval::ResultTable table(columns);
  for (std::size_t turn = 0; turn + 1 < options.turns; ++turn) {
    std::vector<std::string> cells = {std::to_string(turn + 2)};
    for (const auto& strategy : strategies) {
      const auto& row = strategy["turns"][turn];
      cells.push_back(cell(row["kl"], 5) + " " + cell(row["delta_nll"], 4) + " " + cell(row["ratio_to_f16"], 2));
    }
    table.add(std::move(cells));
  }
  return table.text() + "\nturns of the same length" +
         (options.last_turn > 0 ? " but for the last, of " + std::to_string(options.last_turn) : "") + ", " +
         std::to_string(options.history + options.fresh) + " tokens at most; " +
         (options.rewrite ? "all rows are coded again" : "what is new is appended") + " after each\n";
}

}  // namespace

void evaluate_turns(Evaluation& run) {
  const std::size_t turns = run.options.turns, last = run.options.last_turn,
                    longest = run.options.history + run.options.fresh;
  // Two tokens a turn at least: what comes after the last one of a turn is not judged.
  if (const std::size_t needed = last > 0 ? 2 * (turns - 1) + last : 2 * turns; longest < needed)
    throw Failure({ErrorCode::invalid_argument, std::to_string(turns) + " turns need " + std::to_string(needed) +
                                                    " tokens: choose a larger --history, or fewer --turns" +
                                                    (last > 0 ? " or a shorter --last-turn" : "")});
  const auto texts = long_enough(run, std::max(run.options.history / 2 + run.options.fresh, 2 * turns + last));
  const auto contenders = run.contenders();
  using Rows = eval::StrategyRun<CpuModel>::Rows;
  std::vector<TurnsOutcome> outcomes;
  for (const auto& name : contenders.names()) outcomes.push_back({name, std::vector<eval::QualityOfReturns>(turns)});
  for (std::size_t i = 0; i < texts.size(); ++i) {
    run.progress("conversation", i, texts.size(), texts[i].id);
    const auto text = std::span(texts[i].tokens).first(std::min(longest, texts[i].tokens.size()));
    const auto ranges =
        last > 0 ? eval::turns_before_last(text.size(), turns, last) : eval::equal_turns(text.size(), turns);
    const auto found =
        unwrap(eval::evaluate_turns(contenders, text, ranges, run.options.rewrite ? Rows::rewrite : Rows::append));
    for (std::size_t turn = 0; turn < turns; ++turn)
      for (std::size_t which = 0; which < outcomes.size(); ++which) outcomes[which].turns[turn].add(found[turn][which]);
  }

  Json rows = Json::array();
  for (const auto& outcome : outcomes) rows.push_back(outcome_json(outcome, run.f16()));
  print_evaluation(run, {.strategies = rows,
                         .csv = flat_rows(run, rows),
                         .more = {{"history", run.options.history},
                                  {"new", run.options.fresh},
                                  {"turns", turns},
                                  {"last_turn", last},
                                  {"rows", run.options.rewrite ? "rewrite" : "append"}},
                         .table = turns_table(rows, run.options)});
}

}  // namespace krul::cli
