#include <cstdio>
#include <memory>

#include "bench.hpp"
#include "krul/eval/decode_bench.hpp"
#include "number_option.hpp"
#include "verbs.hpp"

namespace krul::cli {
namespace {

struct SaveOptions {
  ModelOptions model;
  std::size_t context = 1024;
  std::size_t count = 64;
  RoundsOption rounds;
};

void bench_save(const SaveOptions& options, const Tool& tool) {
  auto model = options.model.load(tool);
  expect_fits(model, options.context + options.count);
  eval::DecodeBench decoding(model.backend, sample_tokens(model, options.context + options.count), options.context);
  const eval::Alternative<eval::DecodeFigure> alternatives[] = {
      {"alone", [&] { return decoding.alone(); }}, {"saving", [&] { return unwrap(decoding.beside_save()); }}};
  RoundsNote note;
  const auto report =
      run_rounds<eval::DecodeFigure>(tool, "decoding beside a save of " + std::to_string(options.context) + " tokens",
                                     alternatives, options.rounds.rules(), note);
  const auto step = report.compare(1, 0, &eval::DecodeFigure::step_s);
  const double begin = eval::median(report.values(1, &eval::DecodeFigure::begin_s)),
               until = eval::median(report.values(1, &eval::DecodeFigure::save_s));
  if (tool.json)
    return tool.print({{"context", options.context},
                       {"tokens", options.count},
                       {"step_alone_ms", step.baseline_median * 1e3},
                       {"step_saving_ms", step.median * 1e3},
                       {"step_ratio", step.ratio.median},
                       {"step_ratio_low", step.ratio.interval.low},
                       {"step_ratio_high", step.ratio.interval.high},
                       {"step_ratio_coverage", step.ratio.interval.coverage},
                       {"begin_ms", begin * 1e3},
                       {"saved_ms", until * 1e3},
                       {"copy_bytes", KvSnapshot::bytes(model.backend.geometry(), options.context)},
                       {"noisy", report.noisy},
                       {"run", note.run(model)}});
  std::printf(
      "%zu tokens decoded beside a save of %zu: %.2f ms a token, %.2f alone, ratio %s\n"
      "the reply is held up for %.1f ms; all is saved after %.0f ms\n%s",
      options.count, options.context, step.median * 1e3, step.baseline_median * 1e3, eval::cell(step.ratio, 3).c_str(),
      begin * 1e3, until * 1e3, note.text().c_str());
}

}  // namespace

void add_bench_save(CLI::App& bench, Tool& tool) {
  auto options = std::make_shared<SaveOptions>();
  auto* verb = bench.add_subcommand("save", "how much slower decoding is while a save goes on in the background");
  options->model.add_to(*verb);
  add_number(*verb, "--context", options->context, {1, 1 << 20}, "tokens that are saved");
  add_number(*verb, "--tokens", options->count, {1, 1 << 20}, "tokens that are decoded beside it");
  options->rounds.add_to(*verb);
  verb->callback([options, &tool] { bench_save(*options, tool); });
}

}  // namespace krul::cli
