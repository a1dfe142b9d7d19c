#include <cmath>
#include <string>

#include "all_runs.hpp"
#include "escaped.hpp"
#include "evaluate.hpp"
#include "krul/eval/by_source.hpp"
#include "krul/eval/quality.hpp"
#include "krul/eval/result_table.hpp"
#include "quality_rows.hpp"

namespace krul::cli {
namespace {

/// Quality and size of one strategy on some conversations.
struct SourceQuality {
  eval::QualityTotals quality;
  double bytes = 0, tokens = 0;
  void add(const std::vector<eval::TokenQuality>& conversation, double stored, double rows) {
    quality.add(conversation);
    bytes += stored;
    tokens += rows;
  }
};

Json source_figures(const SourceQuality& totals, double f16) {
  const auto quality = totals.quality.summary();
  const double bytes = totals.bytes / totals.tokens;
  return {{"bytes_per_token", bytes},
          {"ratio_to_f16", f16 / bytes},
          {"delta_nll", quality.delta_nll},
          {"kl", quality.kl},
          {"kl_p95", quality.kl_p95},
          {"kl_worst", quality.kl_worst},
          {"kl_q1", quality.kl_quartiles[0]},
          {"kl_median", quality.kl_quartiles[1]},
          {"kl_q3", quality.kl_quartiles[2]},
          {"kl_low", finite_or_null(quality.kl_interval.low)},
          {"kl_high", finite_or_null(quality.kl_interval.high)},
          {"history_benefit", quality.history_benefit ? Json(*quality.history_benefit) : Json(nullptr)},
          {"top1", quality.top1},
          {"conversations", quality.conversations},
          {"tokens", quality.tokens}};
}

struct QualityOutcome {
  std::string name;
  eval::BySource<SourceQuality> totals;
  std::vector<double> bytes = {};  ///< [conversations] a token
};

Json to_json(const QualityOutcome& outcome, const std::vector<CutText>& cases, double f16) {
  Json row = figures_by_source(outcome.name, outcome.totals,
                               [f16](const SourceQuality& totals) { return source_figures(totals, f16); });
  row["by_conversation"] = Json::array();
  for (std::size_t i = 0; i < cases.size(); ++i)
    row["by_conversation"].push_back({{"id", cases[i].id},
                                      {"source", cases[i].source},
                                      {"history", cases[i].history},
                                      {"bytes_per_token", outcome.bytes[i]},
                                      {"kl", outcome.totals.all().quality.conversation_means()[i]}});
  return row;
}

std::string quality_table(const Json& rows, const EvaluateOptions& options) {
  using eval::cell;
  constexpr auto left = eval::ResultTable::Align::left;
  eval::ResultTable table({{"strategy", "", left},
                           {"data", "", left},
                           {"talks"},
                           {"bytes", "per token"},
                           {"ratio", "to f16"},
                           {"dNLL", "nats"},
                           {"KL", "nats"},
                           {"KL p95"},
                           {"KL quartiles", "conversations"},
                           {"KL worst", "conversation"},
                           {"top-1"},
                           {"benefit", "kept"}});
  for_each_source(rows, [&](const std::string& name, const std::string& data, const Json& row) {
    const auto value = [&](const char* key) { return row[key].is_null() ? std::nan("") : row[key].get<double>(); };
    table.add({name, escaped(data), cell(value("conversations"), 0), cell(value("bytes_per_token"), 0),
               cell(value("ratio_to_f16"), 2), cell(value("delta_nll"), 4), cell(value("kl"), 5),
               cell(value("kl_p95"), 5),
               cell(value("kl_q1"), 5) + " " + cell(value("kl_median"), 5) + " " + cell(value("kl_q3"), 5),
               cell(value("kl_worst"), 5), cell(value("top1"), 3), cell(value("history_benefit"), 4)});
  });
  return table.text() + "\nhistory of up to " + std::to_string(options.history) + " tokens, the next " +
         std::to_string(options.fresh) + " are the new input; " +
         std::to_string(rows.front()["conversations"].get<std::size_t>()) + " conversations\n";
}

}  // namespace

void evaluate_quality(Evaluation& run) {
  CpuModel& model = run.model.backend;
  const auto cases = cut_texts(run);
  std::vector<QualityOutcome> outcomes;
  for (const auto& name : names_of_runs(run)) outcomes.push_back({name, {}});

  for (std::size_t i = 0; i < cases.size(); ++i) {
    const CutText& item = cases[i];
    run.progress("conversation", i, cases.size(), item.id);
    auto exact = eval::prefill_exact(model, item.before(), item.fresh().size(), run.strategies);
    const auto reference = logits_after(model, exact.cache, item.fresh(), item.fresh().size());
    exact.cache.truncate(item.history);
    auto empty = eval::prefill_exact(model, {}, item.fresh().size());
    const auto alone = logits_after(model, empty.cache, item.fresh(), item.fresh().size());
    for_each_run(run, [&](std::size_t index, auto&& state) {
      unwrap(state.save(exact, item.before()));
      const auto logits = unwrap(state.resume(item.all, item.fresh().size()));
      const auto bytes = static_cast<double>(state.stored_bytes()), stored = static_cast<double>(state.stored_rows());
      outcomes[index].totals.add(item.source, eval::compare_rows(reference, logits, item.fresh(), alone), bytes,
                                 stored);
      outcomes[index].bytes.push_back(bytes / stored);
    });
  }

  Json rows = Json::array();
  for (const auto& outcome : outcomes)
    rows.push_back(to_json(outcome, cases, static_cast<double>(model.geometry().f16_token_bytes())));
  print_evaluation(run, {.strategies = rows,
                         .csv = rows_by_source(run, rows),
                         .more = {{"history", run.options.history}, {"new", run.options.fresh}},
                         .table = quality_table(rows, run.options)});
}

}  // namespace krul::cli
