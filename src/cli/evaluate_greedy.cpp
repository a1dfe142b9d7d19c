#include "evaluate.hpp"

namespace krul::cli {
namespace {

Json greedy_figures(const eval::GreedyReturns& totals, double f16) {
  Json figures = stored_figures(totals.stored, f16);
  figures.update({{"same_mean", eval::mean(totals.same)},
                  {"same_q1", eval::quantile(totals.same, 0.25)},
                  {"same_median", eval::median(totals.same)},
                  {"same_q3", eval::quantile(totals.same, 0.75)},
                  {"never_differs", static_cast<double>(totals.never) / static_cast<double>(totals.same.size())},
                  {"conversations", totals.same.size()}});
  return figures;
}

std::string greedy_table(const Json& rows, const EvaluateOptions& options, std::size_t prompt) {
  return table_by_source(rows, "strategy",
                         {{{"conversations"}, "conversations", "", 0},
                          {{"ratio_to_f16"}, "ratio", "to f16", 2},
                          {{"same_mean"}, "same", "tokens, mean"},
                          {{"same_q1", "same_median", "same_q3"}, "same", "quartiles", 0},
                          {{"never_differs"}, "never differs", "%", 0, 100}}) +
         "\nhistory of up to " + std::to_string(options.history) + " tokens, a prompt of " + std::to_string(prompt) +
         ", then at most " + std::to_string(options.greedy) + " greedy tokens\n";
}

}  // namespace

void evaluate_greedy(Evaluation& run) {
  const auto contenders = run.contenders();
  const eval::GreedySettings settings{.most = run.options.greedy,
                                      .ends = [&](Token token) { return run.model.tokenizer.ends_turn(token); }};
  const Protocol<eval::GreedyReturns, eval::CutText, eval::GreedyReturn> protocol{
      .what = "conversation",
      .evaluate = [&](const eval::CutText& text) { return eval::evaluate_greedy(contenders, text, settings); },
      .figures = [&](const eval::GreedyReturns& totals) { return greedy_figures(totals, run.f16()); },
      .of_case = [](const eval::CutText& text, const eval::GreedyReturn& found) -> Json {
        return {{"history", text.history},
                {"bytes_per_token", found.stored.bytes_per_row()},
                {"same", found.difference ? Json(*found.difference) : Json(nullptr)}};
      }};
  const Json rows = evaluated(run, contenders.names(), cut_texts(run), protocol);
  const std::size_t prompt = std::min(run.options.fresh, settings.prompt);
  print_evaluation(run, {.strategies = rows,
                         .csv = rows_by_source(run, rows),
                         .more = {{"history", run.options.history}, {"prompt", prompt}, {"greedy", settings.most}},
                         .table = greedy_table(rows, run.options, prompt)});
}

}  // namespace krul::cli
