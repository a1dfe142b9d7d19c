#include <cstdio>
#include <memory>

#include "bench.hpp"
#include "json_table.hpp"
#include "krul/eval/decode_bench.hpp"
#include "number_option.hpp"
#include "texts.hpp"
#include "verbs.hpp"

namespace krul::cli {

std::vector<eval::TokenText> token_texts(const LoadedModel& model, const std::vector<std::string>& files) {
  std::vector<eval::TokenText> texts;
  for (const auto& text : load_conversations(files))
    texts.push_back({text.id, text.source, encode_messages(model, text.messages, false)});
  return texts;
}

std::vector<Token> sample_tokens(const LoadedModel& model, std::size_t count) {
  std::vector<Token> tokens;
  const auto texts = token_texts(model, {});
  while (tokens.size() < count)
    for (const auto& text : texts) tokens.insert(tokens.end(), text.tokens.begin(), text.tokens.end());
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

void bench_prefill(const PassesOptions& options, const Tool& tool) {
  if (options.phases) options.model.expect_processor("--phases");
  auto model = options.model.load(tool);
  if (options.phases) return bench_phases(model, options, tool);
  RoundsNote note;
  Json results = Json::array();
  for_each_length(options, model, model.backend, [&](std::size_t length, auto& bench, const auto& rules) {
    const auto report = run_rounds_of(
        tool, "prefill of " + std::to_string(length) + " tokens", [&] { return bench.pass_s(); }, rules, note);
    const double taken = eval::median(report.values(0));
    results.push_back({{"tokens", length},
                       {"context", options.context},
                       {"tokens_per_s", static_cast<double>(length) / taken},
                       {"ms", taken * 1e3},
                       {"rounds", report.rounds.size()},
                       {"noisy", report.noisy}});
  });
  if (tool.json) return tool.print({{"results", results}, {"run", note.run(model)}});
  for (Json& row : results) row["mark"] = mark_of_rounds(row["rounds"], row["noisy"]);
  std::printf("%s%s",
              table_text(results, {{{"tokens"}, "tokens", "", 0},
                                   {{"tokens_per_s"}, "prefill", "tokens/s", 0},
                                   {{"ms"}, "time", "ms"},
                                   JsonColumn::text("mark", "rounds")})
                  .c_str(),
              note.text().c_str());
}

struct DecodeOptions {
  ModelOptions model;
  std::size_t count = 64;
  std::size_t context = 512;
  RoundsOption rounds;
};

void bench_decode(const DecodeOptions& options, const Tool& tool) {
  auto model = options.model.load(tool);
  expect_fits(model, options.context + options.count);
  eval::DecodeBench decoding(model.backend, sample_tokens(model, options.context + options.count), options.context);
  RoundsNote note;
  const auto report = run_rounds_of(
      tool, "decode of " + std::to_string(options.count) + " tokens", [&] { return decoding.alone().step_s; },
      options.rounds.rules(), note);
  const double speed = 1 / eval::median(report.values(0));
  if (tool.json)
    return tool.print({{"tokens_per_s", speed},
                       {"tokens", options.count},
                       {"context", options.context},
                       {"rounds", report.rounds.size()},
                       {"noisy", report.noisy},
                       {"run", note.run(model)}});
  std::printf("decode of %zu tokens after %zu: %.1f tokens/s\n%s", options.count, options.context, speed,
              note.text().c_str());
}

}  // namespace

void add_bench(CLI::App& program, Tool& tool) {
  auto* bench = program.add_subcommand("bench", "measure speed");
  bench->require_subcommand(1);
  auto passes = std::make_shared<PassesOptions>();
  auto* prefill = bench->add_subcommand("prefill", "forward pass over many tokens at once");
  passes->model.add_to(*prefill);
  add_numbers(*prefill, "--tokens", passes->lengths, {1, 1 << 20}, "lengths, separated by commas");
  passes->rounds.add_count_to(*prefill);
  add_number(*prefill, "--context", passes->context, {0, 1 << 20}, "tokens in the cache before them");
  prefill->add_flag("--phases", passes->phases,
                    "each part of a pass beside what arithmetic and memory of this machine allow");
  passes->rounds.patience.add_to(*prefill);
  prefill->callback([passes, &tool] { bench_prefill(*passes, tool); });

  auto decoding = std::make_shared<DecodeOptions>();
  auto* decode = bench->add_subcommand("decode", "forward pass token by token");
  decoding->model.add_to(*decode);
  add_number(*decode, "--tokens", decoding->count, {1, 1 << 20}, "tokens to run");
  add_number(*decode, "--context", decoding->context, {0, 1 << 20}, "tokens in the cache before them");
  decoding->rounds.add_to(*decode);
  decode->callback([decoding, &tool] { bench_decode(*decoding, tool); });

  add_bench_coding(*bench, tool);
  add_bench_restore(*bench, tool);
  add_bench_serve(*bench, tool);
  add_bench_observe(*bench, tool);
  add_bench_save(*bench, tool);
}

}  // namespace krul::cli
