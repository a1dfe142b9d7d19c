#include "evaluate.hpp"

namespace krul::cli {
namespace {

/// One precision, and what it did to the predictions.
struct Candidate {
  LoadedModel model;
  eval::BySource<eval::QualityTotals> totals = {};
};

/// Without what is about a history.
Json precision_figures(const eval::QualityTotals& totals) {
  Json figures = quality_figures(totals.summary());
  for (const auto* key : {"kl_q1", "kl_median", "kl_q3", "history_benefit"}) figures.erase(key);
  return figures;
}

std::string precision_table(const Json& rows, const std::string& reference) {
  return table_by_source(rows, "kernels",
                         {{{"conversations"}, "conversations", "", 0},
                          {{"delta_nll"}, "dNLL", "nats", 4},
                          {{"kl"}, "KL", "nats", 5},
                          {{"kl_p95"}, "KL p95", "", 5},
                          {{"kl_worst"}, "KL worst", "conversation", 5},
                          {{"top1"}, "top-1", "", 3}}) +
         "\nagainst " + reference + "\n";
}

}  // namespace

void evaluate_precision(Evaluation& run) {
  std::vector<Candidate> candidates;
  for (const auto& precision : run.options.precisions) {
    ModelOptions options = run.options.model;
    options.precision = precision;
    options.kernels = "auto";
    candidates.push_back({options.load(run.tool)});
  }
  CpuModel& exact = run.model.backend;
  const std::size_t fresh = run.options.fresh;
  const auto cases = long_enough(run, run.options.history / 2 + fresh);
  for (std::size_t i = 0; i < cases.size(); ++i) {
    run.progress("conversation", i, cases.size(), cases[i].id);
    const auto& all = cases[i].tokens;
    const auto tokens = std::span(all).first(std::min(run.options.history + fresh, all.size()));
    const auto reference = eval::logits_of(exact, tokens, fresh);
    for (auto& candidate : candidates)
      candidate.totals.add(
          cases[i].source,
          eval::compare_rows(reference, eval::logits_of(candidate.model.backend, tokens, fresh), tokens.last(fresh)));
  }
  Json rows = Json::array();
  for (const auto& candidate : candidates)
    rows.push_back(figures_by_source(candidate.model.backend.identity().kernels, candidate.totals, precision_figures));
  print_evaluation(run, {.strategies = rows,
                         .csv = rows_by_source(run, rows),
                         .more = {{"history", run.options.history}, {"new", fresh}},
                         .table = precision_table(rows, exact.identity().kernels)});
}

}  // namespace krul::cli
