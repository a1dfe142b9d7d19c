#include <cstdio>
#include <memory>

#include "bench.hpp"
#include "krul/conversation/background_save.hpp"
#include "krul/conversation/conversation.hpp"
#include "krul/eval/result_table.hpp"
#include "krul/store/memory_store.hpp"
#include "number_option.hpp"
#include "run_rounds.hpp"
#include "verbs.hpp"

namespace krul::cli {
namespace {

struct SaveOptions {
  ModelOptions model;
  std::size_t context = 1024;
  std::size_t count = 64;
  std::size_t rounds = 7;
  PatienceOption patience{bench_patience_s};
};

/// Decoding beside a save, or alone.
struct SaveTimes {
  double step_s = 0;   ///< of one token, mean
  double begin_s = 0;  ///< until the first token may run: the copy of the rows
  double save_s = 0;   ///< until all is saved
};

/// A conversation whose cache is saved again and again, into memory, in krul's default coding.
class SavedTalk {
 public:
  SavedTalk(LoadedModel& model, const SaveOptions& options)
      : model_(model),
        tokens_(sample_tokens(model, options.context + options.count)),
        context_(options.context),
        cache_(model.backend.make_cache(tokens_.size())),
        batch_(model.backend.make_batch()),
        logits_(model.backend.geometry().vocabulary) {
    prefill(model.backend, cache_, batch_, std::span(tokens_).first(context_), {});
  }

  SaveTimes alone() {
    cache_.truncate(context_);
    SaveTimes taken;
    taken.step_s = decode() / static_cast<double>(tokens_.size() - context_);
    return taken;
  }

  /// All rows of the context are new, as after a long first turn.
  SaveTimes saving() {
    cache_.truncate(context_);
    const SteadyClock clock;
    const TimePoint start = clock.now();
    const Geometry& geometry = model_.backend.geometry();
    BackgroundSave<MemoryStore> save(
        {.store = store_,
         .folder = conversation_folder("bench").value(),
         .rows = KvSnapshot(geometry, cache_, 0),
         .geometry = geometry,
         .plan = {},
         .statistics = {},
         .manifest = {.conversation = "bench",
                      .identity = model_.backend.identity(),
                      .tokens = {},
                      .layers = geometry.layers,
                      .objects = {},
                      .plans = {},
                      .chunks = {},
                      .statistics = {},
                      .writer = krul_version},
         .tokens = {tokens_.begin(), tokens_.begin() + static_cast<std::ptrdiff_t>(context_)}});
    SaveTimes taken;
    taken.begin_s = seconds(clock.now() - start);
    taken.step_s = decode() / static_cast<double>(tokens_.size() - context_);
    Manifest manifest;
    static_cast<void>(unwrap(save.finish(manifest)));
    taken.save_s = seconds(clock.now() - start);
    return taken;
  }

 private:
  double decode() {
    return eval::seconds_taken(SteadyClock{}, [&] {
      for (std::size_t i = context_; i < tokens_.size(); ++i)
        forward(model_.backend, cache_, batch_, std::span(tokens_).subspan(i, 1), logits_);
    });
  }

  LoadedModel& model_;
  std::vector<Token> tokens_;
  std::size_t context_;
  CpuModel::Cache cache_;
  CpuModel::Batch batch_;
  std::vector<float> logits_;
  MemoryStore store_;
};

void bench_save(const SaveOptions& options, const Tool& tool) {
  auto model = options.model.load(tool);
  expect_fits(model, options.context + options.count);
  SavedTalk talk(model, options);
  const eval::Alternative<SaveTimes> alternatives[] = {{"alone", [&] { return talk.alone(); }},
                                                       {"saving", [&] { return talk.saving(); }}};
  const auto report =
      run_rounds<SaveTimes>(tool, "decoding beside a save of " + std::to_string(options.context) + " tokens",
                            alternatives, rounds_of(options.rounds, options.patience.limit_s));
  tool.progress("");
  RoundsNote note;
  note.add(report);
  const auto step = report.compare(1, 0, &SaveTimes::step_s);
  const double begin = eval::median(report.values(1, &SaveTimes::begin_s)),
               until = eval::median(report.values(1, &SaveTimes::save_s)),
               alone = eval::median(report.values(0, &SaveTimes::step_s));
  if (tool.json) {
    tool.print({{"context", options.context},
                {"tokens", options.count},
                {"step_alone_ms", alone * 1e3},
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
  } else {
    std::printf(
        "%zu tokens decoded beside a save of %zu: %.2f ms a token, %.2f alone, ratio %s\n"
        "the reply is held up for %.1f ms; all is saved after %.0f ms\n%s",
        options.count, options.context, step.median * 1e3, alone * 1e3, eval::cell(step.ratio, 3).c_str(), begin * 1e3,
        until * 1e3, note.text().c_str());
  }
}

}  // namespace

void add_bench_save(CLI::App& bench, Tool& tool) {
  auto options = std::make_shared<SaveOptions>();
  auto* verb = bench.add_subcommand("save", "how much slower decoding is while a save goes on in the background");
  options->model.add_to(*verb);
  verb->add_option("--context", options->context, "tokens that are saved")
      ->check(between<std::size_t>(1, 1 << 20))
      ->capture_default_str();
  verb->add_option("--tokens", options->count, "tokens that are decoded beside it")
      ->check(between<std::size_t>(1, 1 << 20))
      ->capture_default_str();
  verb->add_option("--rounds", options->rounds, "clean rounds")
      ->check(between<std::size_t>(1, 1000))
      ->capture_default_str();
  options->patience.add_to(*verb);
  verb->callback([options, &tool] { bench_save(*options, tool); });
}

}  // namespace krul::cli
