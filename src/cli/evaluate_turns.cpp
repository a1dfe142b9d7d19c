#include <memory>
#include <string>

#include "all_runs.hpp"
#include "evaluate.hpp"
#include "krul/eval/quality.hpp"
#include "krul/eval/result_table.hpp"
#include "krul/eval/turns.hpp"
#include "quality_rows.hpp"

namespace krul::cli {
namespace {

/// One strategy at one turn, over all conversations.
struct Turn {
  eval::QualityTotals quality;
  double bytes = 0, tokens = 0;  ///< saved when the turn has ended
};

struct TurnsOutcome {
  AnyStrategy strategy;
  std::vector<Turn> turns;  ///< [turns]; the first one has no history
};

Json to_json(const TurnsOutcome& outcome, double f16) {
  Json turns = Json::array();
  for (std::size_t turn = 1; turn < outcome.turns.size(); ++turn) {
    const auto& found = outcome.turns[turn];
    const double bytes = found.bytes / found.tokens;
    Json row = {{"turn", turn + 1}, {"bytes_per_token", bytes}, {"ratio_to_f16", f16 / bytes}};
    row.update(quality_figures(found.quality));
    turns.push_back(std::move(row));
  }
  return {{"name", outcome.strategy.name()}, {"turns", turns}};
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
  CpuModel& model = run.model.backend;
  const std::size_t turns = run.options.turns, last = run.options.last_turn,
                    longest = run.options.history + run.options.fresh;
  // Two tokens a turn at least: what comes after the last one of a turn is not judged.
  if (const std::size_t needed = last > 0 ? 2 * (turns - 1) + last : 2 * turns; longest < needed)
    throw Failure({ErrorCode::invalid_argument, std::to_string(turns) + " turns need " + std::to_string(needed) +
                                                    " tokens: choose a larger --history, or fewer --turns" +
                                                    (last > 0 ? " or a shorter --last-turn" : "")});
  const auto texts = long_enough(run, std::max(run.options.history / 2 + run.options.fresh, 2 * turns + last));
  const auto how = run.options.rewrite ? StrategyRun::Rows::rewrite : StrategyRun::Rows::append;
  std::vector<TurnsOutcome> outcomes;
  for (const auto& strategy : run.strategies) outcomes.push_back({strategy, std::vector<Turn>(turns)});

  for (std::size_t i = 0; i < texts.size(); ++i) {
    run.progress("conversation", i, texts.size(), texts[i].id);
    const auto text = std::span(texts[i].tokens).first(std::min(longest, texts[i].tokens.size()));
    auto exact = eval::prefill_exact(model, {}, text.size());
    std::vector<std::unique_ptr<StrategyRun>> states;
    for (const auto& outcome : outcomes)
      states.push_back(std::make_unique<StrategyRun>(model, outcome.strategy, run.costs_for(outcome.strategy)));
    const auto ranges =
        last > 0 ? eval::turns_before_last(text.size(), turns, last) : eval::equal_turns(text.size(), turns);
    for (std::size_t turn = 0; turn < turns; ++turn) {
      const TokenRange range = ranges[turn];
      const auto fresh = text.subspan(range.begin, range.size());
      const auto reference = logits_after(model, exact.cache, fresh, fresh.size());
      for (std::size_t s = 0; s < states.size(); ++s) {
        const auto logits = unwrap(states[s]->take_turn(text.first(range.end), fresh.size(), how));
        Turn& found = outcomes[s].turns[turn];
        found.quality.add(eval::compare_rows(reference, logits, fresh));
        found.bytes += static_cast<double>(states[s]->stored_bytes());
        found.tokens += static_cast<double>(states[s]->stored_rows());
      }
    }
  }

  Json rows = Json::array();
  for (const auto& outcome : outcomes)
    rows.push_back(to_json(outcome, static_cast<double>(model.geometry().f16_token_bytes())));
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
