#include "evaluate.hpp"

namespace krul::cli {
namespace {

std::string quality_table(const Json& rows, const EvaluateOptions& options) {
  return table_by_source(rows, "strategy",
                         {{{"conversations"}, "conversations", "", 0},
                          {{"bytes_per_token"}, "bytes", "per token", 0},
                          {{"ratio_to_f16"}, "ratio", "to f16", 2},
                          {{"delta_nll"}, "dNLL", "nats", 4},
                          {{"kl"}, "KL", "nats", 5},
                          {{"kl_p95"}, "KL p95", "", 5},
                          {{"kl_q1", "kl_median", "kl_q3"}, "KL quartiles", "conversations", 5},
                          {{"kl_worst"}, "KL worst", "conversation", 5},
                          {{"top1"}, "top-1", "", 3},
                          {{"history_benefit"}, "benefit", "kept", 4}}) +
         "\nhistory of up to " + std::to_string(options.history) + " tokens, the next " +
         std::to_string(options.fresh) + " are the new input; " +
         std::to_string(rows.front()["conversations"].get<std::size_t>()) + " conversations\n";
}

}  // namespace

void evaluate_quality(Evaluation& run) {
  const auto contenders = run.contenders();
  const Protocol<eval::QualityOfReturns, eval::CutText, eval::ReturnQuality> protocol{
      .what = "conversation",
      .evaluate = [&](const eval::CutText& text) { return eval::evaluate_quality(contenders, text); },
      .figures =
          [&](const eval::QualityOfReturns& totals) {
            Json figures = stored_figures(totals.stored, run.f16());
            figures.update(quality_figures(totals.quality.summary()));
            return figures;
          },
      .of_case = [](const eval::CutText& text, const eval::ReturnQuality& found) -> Json {
        return {{"history", text.history},
                {"bytes_per_token", found.stored.bytes_per_row()},
                {"kl", eval::mean_kl(found.tokens)}};
      }};
  const Json rows = evaluated(run, contenders.names(), cut_texts(run), protocol);
  print_evaluation(run, {.strategies = rows,
                         .csv = rows_by_source(run, rows),
                         .more = {{"history", run.options.history}, {"new", run.options.fresh}},
                         .table = quality_table(rows, run.options)});
}

}  // namespace krul::cli
