#include <cmath>
#include <string>
#include <vector>

#include "all_runs.hpp"
#include "escaped.hpp"
#include "evaluate.hpp"
#include "krul/eval/by_source.hpp"
#include "krul/eval/quality.hpp"
#include "krul/eval/result_table.hpp"
#include "quality_rows.hpp"

namespace krul::cli {
namespace {

/// One precision, and what it did to the predictions.
struct Candidate {
  LoadedModel model;
  eval::BySource<eval::QualityTotals> totals = {};
};

/// Next-token logits of the last `rows` tokens when nothing is cached.
std::vector<float> logits_of(CpuModel& model, std::span<const Token> tokens, std::size_t rows) {
  auto cache = model.make_cache(tokens.size());
  auto batch = model.make_batch();
  std::vector<float> logits(rows * model.geometry().vocabulary);
  prefill(model, cache, batch, tokens, logits);
  return logits;
}

std::string precision_table(const Json& rows, const std::string& reference) {
  using eval::cell;
  constexpr auto left = eval::ResultTable::Align::left;
  eval::ResultTable table({{"kernels", "", left},
                           {"data", "", left},
                           {"talks"},
                           {"dNLL", "nats"},
                           {"KL", "nats"},
                           {"KL p95"},
                           {"KL worst", "conversation"},
                           {"top-1"}});
  for_each_source(rows, [&](const std::string& name, const std::string& data, const Json& row) {
    const auto value = [&](const char* key) { return row[key].get<double>(); };
    table.add({name, escaped(data), cell(value("conversations"), 0), cell(value("delta_nll"), 4), cell(value("kl"), 5),
               cell(value("kl_p95"), 5), cell(value("kl_worst"), 5), cell(value("top1"), 3)});
  });
  return table.text() + "\nagainst " + reference + "\n";
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
    const auto reference = logits_of(exact, tokens, fresh);
    for (auto& candidate : candidates)
      candidate.totals.add(
          cases[i].source,
          eval::compare_rows(reference, logits_of(candidate.model.backend, tokens, fresh), tokens.last(fresh)));
  }
  Json rows = Json::array();
  for (const auto& candidate : candidates)
    rows.push_back(figures_by_source(candidate.model.backend.identity().kernels, candidate.totals, quality_figures));
  print_evaluation(run, {.strategies = rows,
                         .csv = rows_by_source(run, rows),
                         .more = {{"history", run.options.history}, {"new", fresh}},
                         .table = precision_table(rows, exact.identity().kernels)});
}

}  // namespace krul::cli
