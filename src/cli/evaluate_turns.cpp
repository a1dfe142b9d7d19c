#include "evaluate.hpp"

namespace krul::cli {
namespace {

Json turns_json(const eval::EvaluatedTurns& row) {
  Json turns = Json::array();
  for (std::size_t turn = 0; turn < row.turns.size(); ++turn) {
    turns.push_back({{"turn", turn + 2}});
    turns.back().update(json_of(row.turns[turn]));
  }
  return {{"name", row.name}, {"turns", turns}};
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
  const auto& options = run.options;
  const eval::TurnCut cut{options.turns, options.last_turn};
  const std::size_t longest = options.history + options.fresh;
  if (const std::size_t needed = cut.least_tokens(); longest < needed)
    throw Failure({ErrorCode::invalid_argument, std::to_string(cut.turns) + " turns need " + std::to_string(needed) +
                                                    " tokens: choose a larger --history, or fewer --turns" +
                                                    (cut.last > 0 ? " or a shorter --last-turn" : "")});
  auto texts = long_enough(run, std::max(options.history / 2 + options.fresh, 2 * cut.turns + cut.last));
  for (auto& text : texts) text.tokens.resize(std::min(longest, text.tokens.size()));
  const auto contenders = run.contenders();
  using Rows = eval::StrategyRun<AnyModel>::Rows;
  Json rows = Json::array();
  for (const auto& row : unwrap(eval::evaluate_all_turns(
           contenders, texts, cut, options.rewrite ? Rows::rewrite : Rows::append,
           [&](std::size_t i, const auto&text) { run.progress("conversation", i, texts.size(), text.id); })))
    rows.push_back(turns_json(row));
  print_evaluation(run, {.strategies = rows,
                         .csv = flat_rows(run, rows),
                         .more = {{"history", options.history},
                                  {"new", options.fresh},
                                  {"turns", cut.turns},
                                  {"last_turn", cut.last},
                                  {"rows", options.rewrite ? "rewrite" : "append"}},
                         .table = turns_table(rows, options)});
}

}  // namespace krul::cli
