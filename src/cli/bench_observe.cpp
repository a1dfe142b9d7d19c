#include <cstdio>
#include <memory>

#include "bench.hpp"
#include "json_table.hpp"
#include "krul/eval/observe_bench.hpp"
#include "number_option.hpp"

namespace krul::cli {
namespace {

struct ObserveOptions {
  ModelOptions model;
  std::size_t tokens = 1024;
  std::size_t decoded = 64;
  std::string metrics = "exact,exact/16,exact/32,sketch";
  std::vector<std::string> data;
  std::size_t texts = 4;
  ExactGramOptions exact;
  RoundsOption rounds;
};

/// Conversations of files that are long enough, cut; or the program's own, one after the other.
std::vector<std::vector<Token>> observed_texts(const LoadedModel& model, const ObserveOptions& options,
                                               std::size_t length) {
  std::vector<std::vector<Token>> texts;
  if (options.data.empty()) {
    const auto all = sample_tokens(model, length * options.texts);
    for (auto from = all.begin(); from != all.end(); from += static_cast<std::ptrdiff_t>(length))
      texts.emplace_back(from, from + static_cast<std::ptrdiff_t>(length));
    return texts;
  }
  for (auto& text : eval::long_enough(token_texts(model, options.data), length)) {
    text.tokens.resize(length);
    texts.push_back(std::move(text.tokens));
    if (texts.size() == options.texts) return texts;
  }
  throw Failure({ErrorCode::invalid_argument, "only " + std::to_string(texts.size()) + " conversations have " +
                                                  std::to_string(length) +
                                                  " tokens: ask for fewer --texts or --tokens"});
}

Json cost_row(const eval::ObservedCost& cost, double tokens) {
  Json row = {{"name", cost.name},
              {"prefill_ms", cost.times.prefill_s * 1e3},
              {"core_us_per_token", cost.times.prefill_core_s * 1e6 / tokens},
              {"added_core_us_per_token", cost.added_core_s * 1e6 / tokens},
              {"prefill_ratio", cost.prefill_ratio},
              {"step_ms", cost.times.step_s * 1e3},
              {"step_core_ms", cost.times.step_core_s * 1e3},
              {"step_core_ratio", cost.step_core_ratio}};
  if (cost.agreement)
    row.update({{"bytes", cost.bytes},
                {"rank_correlation", cost.agreement->correlation},
                {"relative_error", cost.agreement->error}});
  return row;
}

void bench_observe(const ObserveOptions& options, const Tool& tool) {
  eval::ObserveSettings settings{unwrap(eval::ObservedMetric::all_named(options.metrics)), options.decoded,
                                 options.exact};
  auto model = options.model.load(tool);
  const std::size_t length = options.tokens + options.decoded;
  expect_fits(model, length);
  if (model.backend.geometry().layers < 3)
    throw Failure({ErrorCode::unsupported,
                   "estimates are compared by the order of pairs of layers, and this model has "
                   "one pair at most; give one of three layers or more"});
  const auto texts = observed_texts(model, options, length);
  eval::ObserveBench bench(model.backend, std::move(settings));
  for (std::size_t number = 0; number < texts.size(); ++number) {
    tool.progress("agreement on text " + std::to_string(number + 1) + " of " + std::to_string(texts.size()));
    bench.compare_on(texts[number]);
  }
  RoundsNote note;
  const auto report =
      run_rounds<eval::ObservedTimes>(tool, "forward passes under each metric", bench.alternatives(texts.front()),
                                      {.clean_rounds = options.rounds.clean,
                                       .most_rounds = 2 * options.rounds.clean,
                                       .patience_s = options.rounds.patience.limit_s},
                                      note);
  Json results = Json::array();
  for (const auto& cost : bench.costs(report)) results.push_back(cost_row(cost, static_cast<double>(options.tokens)));
  if (tool.json) return tool.print({{"results", results}, {"noisy", report.noisy}, {"run", note.run(model)}});
  std::printf("%s%s",
              table_text(results, {JsonColumn::text("name", ""),
                                   {{"prefill_ms"}, "prefill", "ms"},
                                   {{"core_us_per_token"}, "prefill", "core us/token"},
                                   {{"added_core_us_per_token"}, "added", "core us/token"},
                                   {{"prefill_ratio"}, "wall", "ratio", 3},
                                   {{"step_core_ms"}, "decode", "core us/step", 0, 1e3},
                                   {{"step_core_ratio"}, "decode", "core ratio", 3},
                                   {{"bytes"}, "held", "MB", 1, 1e-6},
                                   {{"rank_correlation"}, "rank", "correlation", 4},
                                   {{"relative_error"}, "error", "%", 2, 100}})
                  .c_str(),
              note.text().c_str());
}

}  // namespace

void add_bench_observe(CLI::App& bench, Tool& tool) {
  auto options = std::make_shared<ObserveOptions>();
  auto* verb = bench.add_subcommand("observe", "what gathering attention statistics costs, and how good estimates are");
  options->model.add_to(*verb);
  add_number(*verb, "--tokens", options->tokens, {16, 1 << 20}, "tokens of the prefill");
  add_number(*verb, "--decode", options->decoded, {1, 1 << 20}, "decode steps after it");
  verb->add_option("--metrics", options->metrics, "exact, sketch, or one of s rows: exact/16; separated by commas")
      ->capture_default_str();
  add_number(*verb, "--block-rows", options->exact.most_rows, {1, 1 << 20},
             "query rows that the exact metric takes at once; its memory grows with them");
  add_number(*verb, "--negligible", options->exact.negligible, {0, 1},
             "256 keys that all get less are left out by the exact metric, but not in what it is compared with");
  verb->add_option("--data", options->data, "JSON-lines files of conversations; the program's own if there are none");
  add_number(*verb, "--texts", options->texts, {1, 1000},
             "texts on which estimates are compared with exact distances; the worst rank correlation and the mean "
             "error are printed");
  options->rounds.add_to(*verb);
  verb->callback([options, &tool] { bench_observe(*options, tool); });
}

}  // namespace krul::cli
