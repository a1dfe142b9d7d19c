#include <cstdio>
#include <memory>

#include "bench.hpp"
#include "krul/backend/forward.hpp"
#include "krul/eval/decode_bench.hpp"
#include "krul/eval/result_table.hpp"
#include "number_option.hpp"
#include "texts.hpp"
#include "verbs.hpp"

namespace krul::cli {

std::vector<Token> sample_tokens(const LoadedModel& model, std::size_t count) {
  std::vector<Token> tokens;
  const auto texts = load_conversations("");
  while (tokens.size() < count)
    for (const auto& text : texts) {
      const auto more = encode_messages(model, text.messages, false);
      tokens.insert(tokens.end(), more.begin(), more.end());
    }
  tokens.resize(count);
  return tokens;
}

void expect_fits(const LoadedModel& model, std::size_t tokens) {
  const std::size_t context = model.backend.geometry().context;
  if (tokens > context)
    throw Failure({ErrorCode::too_large,
                   std::to_string(tokens) + " tokens do not fit the model's context of " + std::to_string(context)});
}

namespace {

struct ForwardOptions {
  ModelOptions model;
  std::vector<std::size_t> tokens{512, 1024};
  std::size_t count = 64;
  std::size_t context = 512;
  std::size_t rounds = 7;
  std::size_t history = 0;
  bool phases = false;
  PatienceOption patience{bench_patience_s};
};

/// Rounds of `work` alone, which says what it took in seconds.
/// @param what  it is, for people
eval::RoundsReport<double> rounds_alone(const Tool& tool, const std::string& what, const std::function<double()>& work,
                                        const eval::RoundsOptions& options) {
  const eval::Alternative<double> alternative{"", work};
  return run_rounds(tool, what, std::span(&alternative, 1), options);
}

void bench_prefill(const ForwardOptions& options, const Tool& tool) {
  const std::vector<std::size_t>& lengths = options.tokens;
  auto model = options.model.load(tool);
  if (options.phases) return bench_phases(model, {lengths, options.history, options.rounds, options.patience}, tool);
  const auto patience = options.patience.begin();
  RoundsNote note;
  Json results = Json::array();
  eval::ResultTable table(
      {{"tokens"}, {"prefill", "tokens/s"}, {"time", "ms"}, {"rounds", "", eval::ResultTable::Align::left}});
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    const std::size_t length = lengths[i];
    expect_fits(model, options.history + length);
    const auto all = sample_tokens(model, options.history + length);
    const auto tokens = std::span(all).subspan(options.history);
    auto cache = model.backend.make_cache(all.size());
    auto batch = model.backend.make_batch();
    std::vector<float> logits(model.backend.geometry().vocabulary);
    if (options.history > 0) prefill(model.backend, cache, batch, std::span(all).first(options.history), {});
    const auto report = rounds_alone(
        tool, "prefill of " + std::to_string(length) + " tokens",
        [&] {
          cache.truncate(options.history);
          return eval::seconds_taken(SteadyClock{}, [&] { prefill(model.backend, cache, batch, tokens, logits); });
        },
        rounds_of(options.rounds, patience.share_s(lengths.size() - i)));
    note.add(report);
    const double taken = eval::median(report.values(0));
    const double speed = static_cast<double>(length) / taken;
    results.push_back({{"tokens", length},
                       {"context", options.history},
                       {"tokens_per_s", speed},
                       {"ms", taken * 1e3},
                       {"rounds", report.rounds.size()},
                       {"noisy", report.noisy}});
    table.add({std::to_string(length), eval::cell(speed, 0), eval::cell(taken * 1e3),
               mark_of_rounds(report.rounds.size(), report.noisy)});
  }
  tool.progress("");
  if (tool.json) {
    tool.print({{"results", results}, {"run", note.run(model)}});
  } else {
    std::printf("%s%s", table.text().c_str(), note.text().c_str());
  }
}

void bench_decode(const ForwardOptions& options, const Tool& tool) {
  auto model = options.model.load(tool);
  expect_fits(model, options.context + options.count);
  eval::DecodeBench decoding(model.backend, sample_tokens(model, options.context + options.count), options.context);
  const auto report = rounds_alone(
      tool, "decode of " + std::to_string(options.count) + " tokens", [&] { return decoding.alone().step_s; },
      rounds_of(options.rounds, options.patience.limit_s));
  tool.progress("");
  RoundsNote note;
  note.add(report);
  const double speed = 1 / eval::median(report.values(0));
  if (tool.json) {
    tool.print({{"tokens_per_s", speed},
                {"tokens", options.count},
                {"context", options.context},
                {"rounds", report.rounds.size()},
                {"noisy", report.noisy},
                {"run", note.run(model)}});
  } else {
    std::printf("decode of %zu tokens after %zu: %.1f tokens/s\n%s", options.count, options.context, speed,
                note.text().c_str());
  }
}

}  // namespace

void add_bench(CLI::App& program, Tool& tool) {
  auto* bench = program.add_subcommand("bench", "measure speed");
  bench->require_subcommand(1);
  auto options = std::make_shared<ForwardOptions>();
  auto* prefill_verb = bench->add_subcommand("prefill", "forward pass over many tokens at once");
  options->model.add_to(*prefill_verb);
  prefill_verb->add_option("--tokens", options->tokens, "lengths, separated by commas")
      ->delimiter(',')
      ->check(between<std::size_t>(1, 1 << 20))
      ->capture_default_str();
  prefill_verb->add_option("--rounds", options->rounds, "clean rounds")
      ->check(between<std::size_t>(1, 1000))
      ->capture_default_str();
  prefill_verb->add_option("--context", options->history, "tokens in the cache before them")
      ->check(between<std::size_t>(0, 1 << 20))
      ->capture_default_str();
  prefill_verb->add_flag("--phases", options->phases,
                         "each part of a pass beside what arithmetic and memory of this machine allow");
  options->patience.add_to(*prefill_verb);
  prefill_verb->callback([options, &tool] { bench_prefill(*options, tool); });

  auto* decode = bench->add_subcommand("decode", "forward pass token by token");
  options->model.add_to(*decode);
  decode->add_option("--tokens", options->count, "tokens to run")
      ->check(between<std::size_t>(1, 1 << 20))
      ->capture_default_str();
  decode->add_option("--context", options->context, "tokens in the cache before them")
      ->check(between<std::size_t>(0, 1 << 20))
      ->capture_default_str();
  decode->add_option("--rounds", options->rounds, "clean rounds")
      ->check(between<std::size_t>(1, 1000))
      ->capture_default_str();
  options->patience.add_to(*decode);
  decode->callback([options, &tool] { bench_decode(*options, tool); });

  add_bench_coding(*bench, tool);
  add_bench_restore(*bench, tool);
  add_bench_serve(*bench, tool);
  add_bench_observe(*bench, tool);
  add_bench_save(*bench, tool);
}

}  // namespace krul::cli
