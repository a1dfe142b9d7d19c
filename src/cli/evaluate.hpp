#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "krul/strategy/any_strategy.hpp"
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

  [[nodiscard]] Costs costs_for(const AnyStrategy& strategy) const {
    return costs.of(strategy, model.backend.geometry().layers, link);
  }
  void progress(std::string_view what, std::size_t done, std::size_t all, const std::string& id) const {
    tool.progress(std::string(what) + " " + std::to_string(done + 1) + " of " + std::to_string(all) + ": " + id);
  }
};

/// Lets the first `limit` of each source through; 0: all.
class PerSource {
 public:
  explicit PerSource(std::size_t limit) : limit_(limit) {}
  /// Counts one of this source; whether it is let through.
  [[nodiscard]] bool take(const std::string& source) { return limit_ == 0 || ++taken_[source] <= limit_; }

 private:
  std::size_t limit_;
  std::map<std::string, std::size_t> taken_;
};

/// A conversation's tokens.
struct TokenText {
  std::string id, source;
  std::vector<Token> tokens;
};

/// The conversations that have at least so many tokens, the first of each source. Ends the program if none has.
[[nodiscard]] std::vector<TokenText> long_enough(const Evaluation& run, std::size_t least_tokens);

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

/// Calls add(name, data, figures) for each strategy, data "all", and then, without its name, for its sources if there
/// are several.
template <class Add>
void for_each_source(const Json& strategies, Add&& add) {
  for (const auto& row : strategies) {
    add(row["name"].get<std::string>(), std::string("all"), row);
    if (row["sources"].size() > 1)
      for (const auto& source : row["sources"]) add(std::string(), source["source"].get<std::string>(), source);
  }
}

/// One flat row for each strategy and source, "all" first, from what figures_by_source gave.
[[nodiscard]] Json rows_by_source(const Evaluation& run, const Json& strategies);

/// One conversation, cut where the user comes back.
struct CutText {
  std::string id, source;
  std::vector<Token> all;
  std::size_t history = 0;
  [[nodiscard]] std::span<const Token> before() const { return std::span(all).first(history); }
  [[nodiscard]] std::span<const Token> fresh() const { return std::span(all).subspan(history); }
};

/// Conversations of up to --history tokens, not below half of that, each with --new tokens after them.
[[nodiscard]] std::vector<CutText> cut_texts(const Evaluation& run);

void evaluate_quality(Evaluation& run);
void evaluate_greedy(Evaluation& run);
void evaluate_tasks(Evaluation& run);
void evaluate_turns(Evaluation& run);
void evaluate_precision(Evaluation& run);

}  // namespace krul::cli
