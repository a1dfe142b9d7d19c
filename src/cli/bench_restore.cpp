#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>

#include "bench.hpp"
#include "krul/core/temporary_folder.hpp"
#include "krul/eval/restore_bench.hpp"
#include "krul/eval/result_table.hpp"
#include "krul/store/memory_store.hpp"
#include "krul/store/page_cache.hpp"
#include "krul/strategy/catalogue.hpp"
#include "machine_costs.hpp"
#include "number_option.hpp"
#include "output_file.hpp"
#include "profile_option.hpp"
#include "restore_json.hpp"
#include "verbs.hpp"
#include "without_effect.hpp"

namespace krul::cli {
namespace {

struct RestoreBenchOptions {
  ModelOptions model;
  ProfileOption profile;
  std::size_t tokens = 1024;
  std::size_t prompt = 32;
  std::size_t rounds = 7;
  std::string links = "25MB/s,50MB/s,117MB/s,disk";
  std::string saved_for;
  std::string strategies = "recompute,load-exact,load-f16,load-int8,partial,krul";
  std::string against;  ///< one of them; empty: load-f16 if it is among them, else the first
  std::string trace;
  bool warm = false;
  bool calibrate = false;
  PatienceOption patience{bench_patience_s};
};

/// "median" and "p90"; null if there are none.
Json spread(const std::vector<double>& values, double scale = 1) {
  if (values.empty()) return nullptr;
  return {{"median", scale * eval::median(values)}, {"p90", scale * eval::quantile(values, 0.9)}};
}

std::string spread_text(const std::vector<double>& values, double scale, const std::string& unit) {
  return eval::cell(scale * eval::median(values)) + unit + " in the median, " +
         eval::cell(scale * eval::quantile(values, 0.9)) + unit + " in 9 of 10";
}

/// The strategy that the others are compared with, among those that were chosen.
std::size_t baseline_of(const RestoreBenchOptions& options, const std::vector<AnyStrategy>& chosen) {
  const auto at = std::ranges::find(chosen, options.against.empty() ? "load-f16" : options.against, &AnyStrategy::name);
  if (at != chosen.end()) return static_cast<std::size_t>(at - chosen.begin());
  if (options.against.empty()) return 0;
  throw Failure({ErrorCode::invalid_argument,
                 "--against " + options.against + " is not among the strategies: " + options.strategies});
}

/// What restores are measured with.
struct RestoreScene {
  LoadedModel& model;
  std::vector<AnyStrategy> strategies;
  MachineCosts costs;
  std::vector<Token> tokens;  ///< history and prompt
  std::size_t history;
  eval::ExactHistory<CpuModel> exact;

  [[nodiscard]] Costs costs_over(const LinkName& link, const AnyStrategy& strategy) const {
    return costs.of(strategy, model.backend.geometry().layers, link);
  }
  /// Saves the history under every strategy, for one link that may be another than the one it comes back over.
  [[nodiscard]] std::vector<eval::Returning> save(AnyStore& store, const LinkName& saved_for, const LinkName& link,
                                                  const Tool& tool) const {
    std::vector<eval::Returning> saved;
    for (const auto& strategy : strategies) {
      tool.progress("saving with " + strategy.name() + " for " + link.text);
      auto returning =
          unwrap(save_returning(model.backend, store, exact, std::span(tokens).first(history),
                                {strategy, saved_id("bench-", strategy, link), costs_over(saved_for, strategy)}));
      returning.costs = costs_over(link, strategy);
      returning.tokens.insert(returning.tokens.end(), tokens.begin() + static_cast<std::ptrdiff_t>(history),
                              tokens.end());
      saved.push_back(std::move(returning));
    }
    return saved;
  }
};

void bench_restore(const RestoreBenchOptions& options, const Tool& tool) {
  auto links = unwrap(parse_links(options.links));
  std::optional<LinkName> saved_for;
  if (!options.saved_for.empty()) saved_for = unwrap(parse_link(options.saved_for));
  const auto known = unwrap(strategy::all_named(strategy::catalogue(), options.strategies));  // before all is loaded
  const std::size_t baseline = baseline_of(options, known);
  auto model = options.model.load(tool);
  expect_fits(model, options.tokens + options.prompt);
  const auto profile = options.profile.load(model, tool);
  auto chosen = unwrap(strategy::all_named(strategy::catalogue(profile), options.strategies));
  say_if_missing(chosen, tool);
  const auto patience = options.patience.begin();
  const double for_costs = patience.share_s(links.size() + 1);
  if (options.calibrate) measure_anew(model, cache_folder(), tool, for_costs);
  auto costs = machine_costs(model, tool, profile, for_costs);
  const auto resolve = [&](LinkName& link) {
    link = costs.resolved(link, model.backend.geometry(), options.tokens, options.prompt);
  };
  std::ranges::for_each(links, resolve);
  if (saved_for) resolve(*saved_for);

  const auto folder = unwrap(TemporaryFolder::make(cache_folder()));
  AnyStore disk = unwrap(FileStore::open(folder.path())), memory = MemoryStore();
  tool.progress("computing " + std::to_string(options.tokens) + " tokens");
  auto tokens = sample_tokens(model, options.tokens + options.prompt);
  auto exact = eval::prefill_exact(model.backend, std::span(tokens).first(options.tokens), 0, chosen);
  const RestoreScene scene{model,          std::move(chosen), std::move(costs), std::move(tokens),
                           options.tokens, std::move(exact)};

  Json results = Json::array();
  std::vector<std::pair<std::string, std::string>> traces;  // file, content
  RoundsNote note;
  eval::RestoreSummary summary;
  const std::string against = scene.strategies[baseline].name();
  eval::ResultTable table({{"link", "", eval::ResultTable::Align::left},
                           {"strategy", "", eval::ResultTable::Align::left},
                           {"first token", "ms"},
                           {"predicted", "ms"},
                           {"bound", "ms"},
                           {"bubble", "ms"},
                           {"read"},
                           {"stored"},
                           {"recomputed", "tokens"},
                           {"time against " + against, "median [95 %]", eval::ResultTable::Align::left}});
  for (std::size_t number = 0; number < links.size(); ++number) {
    const LinkName& link = links[number];
    AnyStore& store = link.kind == LinkName::Kind::disk ? disk : memory;
    const auto saved = scene.save(store, saved_for.value_or(link), link, tool);
    auto over = announced(eval::benched_link(link, store,
                                             [&](const auto&) {
                                               if (!options.warm) drop_from_page_cache(folder.path());
                                             }),
                          "restoring over " + link.text, tool);
    auto rounds = rounds_here(rounds_of(options.rounds, patience.share_s(links.size() - number)));
    const auto report =
        unwrap(eval::bench_restores(model.backend, over, saved, rounds, [](std::size_t, const auto&) {}));
    note.add(report);
    const auto rows = eval::restore_rows(report, baseline);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const auto& row = rows[i];
      summary.add(row);
      Json result = restore_json(row, saved[i], link);
      result.update({{"saved_for", saved_for.value_or(link).text},
                     {"opening_ms", row.opening_s * 1e3},
                     {"recomputed_rows", row.last.recomputed_rows},
                     {"prefix", row.last.plan.prefix},
                     {"rounds", report.rounds.size()},
                     {"discarded_rounds", report.discarded},
                     {"noisy", report.noisy},
                     {"against", against},
                     {"ratio", row.ratio.median},
                     {"ratio_low", row.ratio.interval.low},
                     {"ratio_high", row.ratio.interval.high},
                     {"ratio_coverage", row.ratio.interval.coverage}});
      results.push_back(std::move(result));
      table.add({link.text, row.strategy, eval::cell(row.first_token_s * 1e3), eval::cell(row.predicted_s * 1e3),
                 eval::cell(row.bound_s * 1e3), eval::cell(row.bubble_s * 1e3),
                 human_bytes(static_cast<double>(row.last.bytes)),
                 human_bytes(static_cast<double>(saved[i].stored_bytes)), std::to_string(row.last.recomputed_tokens()),
                 eval::cell(row.ratio) + (report.noisy ? " disturbed" : "")});
      if (!options.trace.empty())
        traces.emplace_back(options.trace + "-" + row.strategy + "-" + std::to_string(number) + ".json",
                            chrome_trace(row.last.timeline, row.strategy + " over " + link.text));
    }
  }
  tool.progress("");
  if (tool.json) {
    Json run = note.run(model);
    run["throttled_latency_ms"] = throttled_latency_s * 1e3;
    run["disk"] = options.warm ? "page cache warm" : "dropped from the page cache before each read";
    run["costs"] = options.calibrate ? "measured at the start of this run" : "kept from an earlier one";
    run["costs_disturbed"] = scene.costs.disturbed;
    tool.print({{"tokens", options.tokens},
                {"prompt", options.prompt},
                {"results", results},
                {"summary",
                 {{"predictions", summary.prediction_errors.size()},
                  {"prediction_error", spread(summary.prediction_errors)},
                  {"bubble_ms", spread(summary.bubbles_s, 1e3)},
                  {"bubble_share", spread(summary.bubble_shares)}}},
                {"run", run}});
  } else {
    std::printf(
        "%s%s\nhistory of %zu tokens, prompt of %zu; times from opening the saved state to the prompt's logits; links "
        "of "
        "a stated\n"
        "rate have %.1f ms latency a request; files %s\n",
        table.text().c_str(), note.text().c_str(), options.tokens, options.prompt, throttled_latency_s * 1e3,
        options.warm ? "in the page cache" : "dropped from the page cache before each restore");
    if (!summary.prediction_errors.empty())
      std::printf("%zu predictions are off by %s\n", summary.prediction_errors.size(),
                  spread_text(summary.prediction_errors, 100, " %").c_str());
    std::printf("bubble: %s; of the time to the first token: %s\n", spread_text(summary.bubbles_s, 1e3, " ms").c_str(),
                spread_text(summary.bubble_shares, 100, " %").c_str());
    std::printf("costs %s\n%s",
                options.calibrate ? "measured at the start of this run" : "as kept; --calibrate measures them first",
                note_on_costs(scene.costs.disturbed).c_str());
  }
  for (const auto& [file, trace] : traces) write_file(file, trace);
}

}  // namespace

void add_bench_restore(CLI::App& bench, Tool& tool) {
  auto options = std::make_shared<RestoreBenchOptions>();
  auto* verb = bench.add_subcommand("restore", "time to first token of a returning conversation");
  options->model.add_to(*verb);
  options->profile.add_to(*verb);
  verb->add_option("--tokens", options->tokens, "history")
      ->check(between<std::size_t>(1, 1 << 20))
      ->capture_default_str();
  verb->add_option("--prompt", options->prompt, "new tokens")
      ->check(between<std::size_t>(1, 1 << 16))
      ->capture_default_str();
  verb->add_option("--link", options->links, "links, separated by commas: 100MB/s, disk, memory")
      ->capture_default_str();
  verb->add_option("--saved-for", options->saved_for, "the link that saves are planned for, if it is another one");
  verb->add_option("--strategies", options->strategies, "names, separated by commas")->capture_default_str();
  verb->add_option("--against", options->against,
                   "the one of them whose time the others are compared with; without it load-f16, or the first");
  verb->add_option("--rounds", options->rounds, "clean rounds")
      ->check(between<std::size_t>(1, 1000))
      ->capture_default_str();
  verb->add_flag("--calibrate", options->calibrate, "measure the costs that predictions need first, and keep them");
  verb->add_flag("--warm", options->warm, "leave the files in the page cache");
  options->patience.add_to(*verb);
  verb->add_option("--trace", options->trace,
                   "write timelines (Chrome trace events, for Perfetto) to files that begin so");
  verb->callback([verb, options, &tool] {
    if (options->links.find("disk") == std::string::npos)
      refuse_without_effect(*verb, "--warm", "where no --link is disk");
    bench_restore(*options, tool);
  });
}

}  // namespace krul::cli
