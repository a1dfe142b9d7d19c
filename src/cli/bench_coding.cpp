#include <cstdio>
#include <memory>

#include "bench.hpp"
#include "json_table.hpp"
#include "krul/eval/coding_probe.hpp"
#include "number_option.hpp"
#include "profile_option.hpp"
#include "verbs.hpp"

namespace krul::cli {
namespace {

struct CodingOptions {
  ModelOptions model;
  ProfileOption profile;
  std::size_t tokens = 1024;
  std::vector<int> steps{-13, -4, 3};
  RoundsOption rounds;
};

void bench_coding(const CodingOptions& options, const Tool& tool) {
  auto model = options.model.load(tool);
  const auto profile = options.profile.load(model, tool);
  if (!profile)
    throw Failure({ErrorCode::not_found,
                   "coding needs a profile of the model: krul calibrate makes one, or give --profile FILE"});
  expect_fits(model, options.tokens);
  const std::string what = "coding " + std::to_string(options.tokens) + " tokens";
  tool.progress(what);
  const auto tokens = sample_tokens(model, options.tokens);
  const eval::CodingProbe probe(model.backend, profile, tokens);
  eval::PrefillBench recomputing(model.backend, tokens, 0);
  const auto workers = static_cast<double>(model.backend.workers().threads());
  // Recomputing is measured in the same rounds: its time on all cores, times their number, beside either direction.
  std::vector<eval::Alternative<eval::CodingFigures>> alternatives{
      {"recompute", [&] {
         const double core_us = recomputing.pass_s() * workers * 1e6 / static_cast<double>(tokens.size());
         return eval::CodingFigures{core_us, core_us, 0};
       }}};
  std::vector<eval::ProbedCoding> codings;
  for (const int code : options.steps)
    for (const bool by_attention : {false, true}) codings.push_back({{static_cast<std::int8_t>(code)}, by_attention});
  for (const eval::ProbedCoding& how : codings)
    alternatives.push_back({std::to_string(how.step.code) + (how.by_attention ? " by attention" : ""),
                            [&probe, how] { return unwrap(probe.run(how)); }});
  RoundsNote note;
  const auto report = run_rounds<eval::CodingFigures>(tool, what, alternatives, options.rounds.rules(), note);

  const auto exact = static_cast<double>(model.backend.geometry().f16_token_bytes());
  const double recompute_us = eval::median(report.values(0, &eval::CodingFigures::encode_us));
  Json results = Json::array();
  for (std::size_t i = 1; i < alternatives.size(); ++i) {
    const auto encoding = report.compare(i, 0, &eval::CodingFigures::encode_us),
               decoding = report.compare(i, 0, &eval::CodingFigures::decode_us);
    const double bytes = eval::median(report.values(i, &eval::CodingFigures::bytes));
    results.push_back({{"step", codings[i - 1].step.code},
                       {"by_attention", codings[i - 1].by_attention},
                       {"bytes_per_token", bytes},
                       {"encode_core_us_per_token", encoding.median},
                       {"decode_core_us_per_token", decoding.median},
                       {"encode_share_of_recompute", encoding.ratio.median},
                       {"decode_share_of_recompute", decoding.ratio.median}});
  }
  if (tool.json) {
    tool.print({{"results", results},
                {"recompute_core_us_per_token", recompute_us},
                {"tokens", options.tokens},
                {"profile", profile->hash()},
                {"noisy", report.noisy},
                {"run", note.run(model)}});
    return;
  }
  for (Json& row : results) {
    row["ratio"] = exact / row["bytes_per_token"].get<double>();
    row["rows"] = row["by_attention"].get<bool>() ? "by attention" : "all alike";
  }
  std::printf("%srecompute: %.0f us a token and core\n%s",
              table_text(results, {{{"step"}, "step", "", 0},
                                   JsonColumn::text("rows", ""),
                                   {{"ratio"}, "smaller than f16"},
                                   {{"encode_core_us_per_token"}, "coding", "us a token and core", 0},
                                   {{"encode_share_of_recompute"}, "of recompute", "%", 1, 100},
                                   {{"decode_core_us_per_token"}, "decoding", "us a token and core", 0},
                                   {{"decode_share_of_recompute"}, "of recompute", "%", 1, 100}})
                  .c_str(),
              recompute_us, note.text().c_str());
}

}  // namespace

void add_bench_coding(CLI::App& bench, Tool& tool) {
  auto options = std::make_shared<CodingOptions>();
  auto* verb = bench.add_subcommand("coding", "what coding by the model's profile takes, beside recomputing");
  options->model.add_to(*verb);
  options->profile.add_to(*verb);
  add_number(*verb, "--tokens", options->tokens, {64, 1 << 20}, "tokens that are coded");
  add_numbers(*verb, "--steps", options->steps, {finest_step.code, coarsest_by_attention.code},
              "codes of the step, separated by commas");
  options->rounds.add_to(*verb);
  verb->callback([options, &tool] { bench_coding(*options, tool); });
}

}  // namespace krul::cli
