#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "json_table.hpp"
#include "krul/eval/evaluate_all.hpp"
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
  std::vector<double> targets;  ///< KL, nats
  std::vector<std::string> finer = {"attended"};
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

  [[nodiscard]] eval::Contenders<AnyModel> contenders() {
    const auto costs_of = [this](const AnyStrategy& strategy) {
      return costs.of(strategy, model.backend.geometry().layers, link);
    };
    return {model.backend, strategies, costs_of, peers};
  }
  void progress(std::string_view what, std::size_t done, std::size_t all, const std::string& id) const {
    tool.progress(std::string(what) + " " + std::to_string(done + 1) + " of " + std::to_string(all) + ": " + id);
  }
};

/// The conversations that have at least so many tokens, the first of each source. Ends the program if none has.
[[nodiscard]] std::vector<eval::TokenText> long_enough(const Evaluation& run, std::size_t least_tokens);

/// Conversations of up to --history tokens, not below half of that, each with --new tokens after them.
[[nodiscard]] std::vector<eval::CutText> cut_texts(const Evaluation& run);

/// Each by its name; null for nothing.
[[nodiscard]] Json json_of(const eval::Figures& figures);

/// For each contender "name", its figures, under "sources" those of each source, and under "by_" and what a case is
/// called those of each case.
[[nodiscard]] Json json_of(const std::vector<eval::EvaluatedContender>& rows, const std::string& what);

/// Evaluates all cases.
/// @param what  a case is called
template <class Totals, class Case, class Found>
[[nodiscard]] Json evaluated(const Evaluation& run, const std::vector<std::string>& names, const std::string& what,
                             const std::vector<Case>& cases, const eval::Protocol<Totals, Case, Found>& protocol) {
  const auto progress = [&](std::size_t i, const Case& each) { run.progress(what, i, cases.size(), each.id); };
  return json_of(unwrap(eval::evaluate_all(names, cases, protocol, progress)), what);
}

/// What an evaluation found.
struct EvaluationResult {
  Json strategies;    ///< [strategies]: "name" and its figures
  Json csv;           ///< [rows] the same, flat
  Json more;          ///< what else the JSON object says
  std::string table;  ///< for people
};

/// Prints it, and writes --csv.
void print_evaluation(const Evaluation& run, const EvaluationResult& result);

/// The table of an evaluation by source, for people.
struct TableBySource {
  std::string names = "strategy";  ///< what the contenders are called
  std::vector<JsonColumn> columns;
  std::string below;  ///< what is said of all of it, without a line feed
};

/// The same for what `evaluated` gave: a line for each strategy with "all" data, and where there are several sources
/// one for each of them, without the strategy's name; in --csv a row for each strategy and source.
void print_by_source(const Evaluation& run, const Json& strategies, const Json& more, const TableBySource& table);

void evaluate_quality(Evaluation& run);
void evaluate_greedy(Evaluation& run);
void evaluate_tasks(Evaluation& run);
void evaluate_turns(Evaluation& run);
void evaluate_precision(Evaluation& run);

}  // namespace krul::cli
