#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "json_table.hpp"
#include "krul/eval/by_source.hpp"
#include "krul/eval/evaluate_return.hpp"
#include "machine_costs.hpp"
#include "peer_options.hpp"
#include "profile_option.hpp"
#include "texts.hpp"
#include "tool.hpp"

namespace krul::cli {

struct EvaluateOptions {
  ModelOptions model;
  ProfileOption profile;
  PeerOptions peers;
  std::vector<std::string> conversations;
  std::vector<std::string> tasks;
  std::string strategies = "load-int8,krul";
  std::string link = "disk";
  std::size_t history = 1024;
  std::size_t fresh = 128;
  std::size_t limit = 0;
  std::size_t turns = 0;
  std::size_t last_turn = 0;  ///< tokens; 0: as long as the others
  std::size_t greedy = 0;
  bool rewrite = false;
  std::vector<std::string> precisions;
  std::vector<int> steps;
  std::string csv;
};

/// What all evaluations run on.
struct Evaluation {
  const EvaluateOptions& options;
  const Tool& tool;
  std::vector<AnyStrategy> strategies;
  LinkName link;
  LoadedModel model;
  MachineCosts costs;
  std::vector<eval::PeerCoder> peers = {};  ///< compared beside the strategies

  /// Bytes of a token at two bytes a value.
  [[nodiscard]] double f16() const { return static_cast<double>(model.backend.geometry().f16_token_bytes()); }
  [[nodiscard]] eval::Contenders<CpuModel> contenders() {
    const auto costs_of = [this](const AnyStrategy& strategy) {
      return costs.of(strategy, model.backend.geometry().layers, link);
    };
    return {model.backend, strategies, costs_of, peers};
  }
  void progress(std::string_view what, std::size_t done, std::size_t all, const std::string& id) const {
    tool.progress(std::string(what) + " " + std::to_string(done + 1) + " of " + std::to_string(all) + ": " + id);
  }
};

/// A conversation's tokens.
struct TokenText {
  std::string id, source;
  std::vector<Token> tokens;
};

/// The conversations that have at least so many tokens, the first of each source. Ends the program if none has.
[[nodiscard]] std::vector<TokenText> long_enough(const Evaluation& run, std::size_t least_tokens);

/// Conversations of up to --history tokens, not below half of that, each with --new tokens after them.
[[nodiscard]] std::vector<eval::CutText> cut_texts(const Evaluation& run);

/// What an evaluation found.
struct EvaluationResult {
  Json strategies;    ///< [strategies]: "name" and its figures
  Json csv;           ///< [rows] the same, flat
  Json more;          ///< what else the JSON object says
  std::string table;  ///< for people
};

/// Prints it, and writes --csv.
void print_evaluation(const Evaluation& run, const EvaluationResult& result);

/// "name", the figures of everything, and under "sources" those of each source.
/// @param totals   eval::BySource
/// @param figures  (totals) -> Json
template <class Totals, class Figures>
[[nodiscard]] Json figures_by_source(std::string_view name, const Totals& totals, Figures&& figures) {
  Json row = {{"name", name}};
  row.update(figures(totals.all()));
  row["sources"] = Json::array();
  for (const auto& [source, of_source] : totals.sources()) {
    Json entry = {{"source", source}};
    entry.update(figures(of_source));
    row["sources"].push_back(std::move(entry));
  }
  return row;
}

/// What a kind of evaluation does with each of its cases.
template <class Totals, class Case, class Found>
struct Protocol {
  std::string what;                                                 ///< a case is called
  std::function<Result<std::vector<Found>>(const Case&)> evaluate;  ///< [contenders]
  std::function<Json(const Totals&)> figures;
  std::function<Json(const Case&, const Found&)> of_case;  ///< behind its "id" and "source"
};

/// Evaluates all cases: for each name the figures of everything and of each source, and under "by_" and what a case is
/// called those of each case.
/// @param names  [contenders]
template <class Totals, class Case, class Found>
[[nodiscard]] Json evaluated(const Evaluation& run, const std::vector<std::string>& names,
                             const std::vector<Case>& cases, const Protocol<Totals, Case, Found>& protocol) {
  std::vector<eval::BySource<Totals>> totals(names.size());
  std::vector<Json> by_case(names.size(), Json::array());
  for (std::size_t i = 0; i < cases.size(); ++i) {
    run.progress(protocol.what, i, cases.size(), cases[i].id);
    const auto found = unwrap(protocol.evaluate(cases[i]));
    for (std::size_t which = 0; which < names.size(); ++which) {
      totals[which].add(cases[i].source, found[which]);
      Json row = {{"id", cases[i].id}, {"source", cases[i].source}};
      row.update(protocol.of_case(cases[i], found[which]));
      by_case[which].push_back(std::move(row));
    }
  }
  Json rows = Json::array();
  for (std::size_t which = 0; which < names.size(); ++which) {
    rows.push_back(figures_by_source(names[which], totals[which], protocol.figures));
    rows.back()["by_" + protocol.what] = std::move(by_case[which]);
  }
  return rows;
}

/// "bytes_per_token", "ratio_to_f16"
/// @param f16  bytes of a token at two bytes a value
[[nodiscard]] Json stored_figures(const eval::StoredSize& stored, double f16);

/// How far predictions are from the exact ones.
[[nodiscard]] Json quality_figures(const eval::QualitySummary& quality);

/// JSON has no infinity.
[[nodiscard]] Json finite_or_null(double value);

/// A table of what figures_by_source gave: a line for each strategy with "all" data, and where there are several
/// sources one for each of them, without the strategy's name.
/// @param columns  behind those of the name, titled `names`, and the data
[[nodiscard]] std::string table_by_source(const Json& strategies, const std::string& names,
                                          const std::vector<JsonColumn>& columns);

/// One flat row for each strategy and source, "all" first, from what figures_by_source gave.
[[nodiscard]] Json rows_by_source(const Evaluation& run, const Json& strategies);

void evaluate_quality(Evaluation& run);
void evaluate_greedy(Evaluation& run);
void evaluate_tasks(Evaluation& run);
void evaluate_turns(Evaluation& run);
void evaluate_precision(Evaluation& run);

}  // namespace krul::cli
