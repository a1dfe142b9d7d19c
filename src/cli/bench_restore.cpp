#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <memory>
#include <optional>

#include "bench.hpp"
#include "krul/eval/result_table.hpp"
#include "krul/eval/save_history.hpp"
#include "krul/eval/statistics.hpp"
#include "krul/store/memory_store.hpp"
#include "krul/store/stored_bytes.hpp"
#include "krul/strategy/catalogue.hpp"
#include "number_option.hpp"
#include "output_file.hpp"
#include "page_cache.hpp"
#include "profile_option.hpp"
#include "restore_once.hpp"
#include "run_rounds.hpp"
#include "temporary_folder.hpp"
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

/// How well restores were predicted, and how long neither lane worked, over all rows of a table.
class Summary {
 public:
  void add(double ttft_ms, double predicted_ms, double bubble_ms) {
    if (predicted_ms > 0) errors_.push_back(std::abs(predicted_ms / ttft_ms - 1));
    bubbles_.push_back(bubble_ms);
    shares_.push_back(bubble_ms / ttft_ms);
  }
  [[nodiscard]] Json json() const {
    const auto of = [](const std::vector<double>& values) -> Json {
      if (values.empty()) return nullptr;
      return {{"median", eval::median(values)}, {"p90", eval::quantile(values, 0.9)}};
    };
    return {{"predictions", errors_.size()},
            {"prediction_error", of(errors_)},
            {"bubble_ms", of(bubbles_)},
            {"bubble_share", of(shares_)}};
  }
  void print() const {
    const auto of = [](const std::vector<double>& values, double scale, const char* unit) {
      char text[64];
      std::snprintf(text, sizeof text, "%.1f%s in the median, %.1f%s in 9 of 10", scale * eval::median(values), unit,
                    scale * eval::quantile(values, 0.9), unit);
      return std::string(text);
    };
    if (!errors_.empty())
      std::printf("%zu predictions are off by %s\n", errors_.size(), of(errors_, 100, " %").c_str());
    std::printf("bubble: %s; of the time to the first token: %s\n", of(bubbles_, 1, " ms").c_str(),
                of(shares_, 100, " %").c_str());
  }

 private:
  std::vector<double> errors_, bubbles_, shares_;
};

/// One measurement a strategy, over the link that is asked for.
std::function<RestoreFigure()> measurement(const Returning& returning, FileStore& disk, MemoryStore& memory,
                                           const AnyStrategy& strategy, const LinkName& link, bool warm) {
  const auto nothing = [](auto&, const auto&) {};
  switch (link.kind) {
    case LinkName::Kind::disk:
      return [=, &disk] {
        if (!warm) drop_from_page_cache(disk.path());
        return restore_once(returning, disk, strategy, nothing);
      };
    case LinkName::Kind::memory:
      return [=, &memory] { return restore_once(returning, memory, strategy, nothing); };
    case LinkName::Kind::rate:
    case LinkName::Kind::relative:
      break;
  }
  return [=, throttled = behind_link(memory, link)]() mutable {
    throttled.empty_bucket();
    return restore_once(returning, throttled, strategy, nothing);
  };
}

/// The strategy that the others are compared with, among those that were chosen.
std::size_t baseline_of(const RestoreBenchOptions& options, const std::vector<AnyStrategy>& chosen) {
  const auto at = std::ranges::find(chosen, options.against.empty() ? "load-f16" : options.against, &AnyStrategy::name);
  if (at != chosen.end()) return static_cast<std::size_t>(at - chosen.begin());
  if (options.against.empty()) return 0;
  throw Failure({ErrorCode::invalid_argument,
                 "--against " + options.against + " is not among the strategies: " + options.strategies});
}

void bench_restore(const RestoreBenchOptions& options, const Tool& tool) {
  auto links = unwrap(parse_links(options.links));
  std::optional<LinkName> saved_for;
  if (!options.saved_for.empty()) saved_for = unwrap(parse_link(options.saved_for));
  const auto known = unwrap(strategy::all_named(strategy::catalogue(), options.strategies));  // before all is loaded
  const std::size_t baseline = baseline_of(options, known);
  auto model = options.model.load(tool);
  expect_fits(model, options.tokens + options.prompt);
  const auto profile = options.profile.load(model, tool);
  const auto chosen = unwrap(strategy::all_named(strategy::catalogue(profile), options.strategies));
  say_if_missing(chosen, tool);
  const auto patience = options.patience.begin();
  const eval::Patience for_costs(patience.share_s(links.size() + 1));
  if (options.calibrate)
    save_machine_costs(measure_machine_costs(model, cache_folder(), tool, for_costs), machine_costs_file(model));
  const auto costs = machine_costs(model, tool, profile, for_costs);
  const auto resolve = [&](const LinkName& link) {
    return costs.resolved(link, model.backend.geometry(), options.tokens, options.prompt);
  };
  for (auto& link : links) link = resolve(link);
  if (saved_for) saved_for = resolve(*saved_for);

  const auto tokens = sample_tokens(model, options.tokens + options.prompt);
  const auto history = std::span(tokens).first(options.tokens);
  const auto folder = unwrap(TemporaryFolder::make(cache_folder()));
  auto disk = unwrap(FileStore::open(folder.path()));
  MemoryStore memory;
  tool.progress("computing " + std::to_string(options.tokens) + " tokens");
  const auto exact = eval::prefill_exact(model.backend, history, 0, chosen);

  Json results = Json::array();
  std::vector<std::pair<std::string, std::string>> traces;  // file, content
  RoundsNote note;
  Summary summary;
  eval::ResultTable table(
      {{"link", "", eval::ResultTable::Align::left},
       {"strategy", "", eval::ResultTable::Align::left},
       {"first token", "ms"},
       {"predicted", "ms"},
       {"bound", "ms"},
       {"bubble", "ms"},
       {"read"},
       {"stored"},
       {"recomputed", "tokens"},
       {"time against " + chosen[baseline].name(), "median [95 %]", eval::ResultTable::Align::left}});
  for (std::size_t number = 0; number < links.size(); ++number) {
    const LinkName& link = links[number];
    std::vector<eval::Alternative<RestoreFigure>> alternatives;
    std::vector<std::uint64_t> stored;
    for (const auto& strategy : chosen) {
      tool.progress("saving with " + strategy.name() + " for " + link.text);
      Returning returning{
          model, costs.costs(link, strategy, model.backend.geometry()), saved_id("bench-", strategy, link), {}};
      const eval::HistorySave save{strategy, returning.id,
                                   costs.costs(saved_for.value_or(link), strategy, model.backend.geometry())};
      if (link.kind == LinkName::Kind::disk) {
        returning.tokens = unwrap(save_history(model.backend, disk, exact, history, save)).tokens;
        stored.push_back(unwrap(stored_bytes(disk, unwrap(conversation_folder(returning.id)))));
      } else {
        returning.tokens = unwrap(save_history(model.backend, memory, exact, history, save)).tokens;
        stored.push_back(unwrap(stored_bytes(memory, unwrap(conversation_folder(returning.id)))));
      }
      returning.tokens.insert(returning.tokens.end(), tokens.begin() + static_cast<std::ptrdiff_t>(options.tokens),
                              tokens.end());
      alternatives.push_back({strategy.name(), measurement(returning, disk, memory, strategy, link, options.warm)});
    }
    const auto report = run_rounds<RestoreFigure>(tool, "restoring over " + link.text, alternatives,
                                                  rounds_of(options.rounds, patience.share_s(links.size() - number)));
    note.add(report);
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      const auto milliseconds = [&](auto figure) { return 1e3 * eval::median(report.values(i, figure)); };
      const auto comparison = report.compare(i, baseline, &RestoreFigure::first_token_s);
      const RestoreReport& last = report.rounds.back().passes[i].back().report;
      const double ttft = milliseconds(&RestoreFigure::first_token_s);
      const double restore = milliseconds([](const RestoreFigure& f) { return f.report.first_token_s; });
      const double bound = milliseconds([](const RestoreFigure& f) { return f.report.bound_s(); });
      const double bubble = milliseconds([](const RestoreFigure& f) { return f.report.bubble_s(); });
      const double predicted = milliseconds([](const RestoreFigure& f) { return f.report.predicted.total_s(); });
      const double opening = milliseconds([](const RestoreFigure& f) { return f.report.opening_s; });
      const std::size_t recomputed = last.recomputed_tokens();
      summary.add(ttft, predicted, bubble);
      results.push_back({{"strategy", chosen[i].name()},
                         {"link", link.text},
                         {"saved_for", saved_for.value_or(link).text},
                         {"ttft_ms", ttft},
                         {"opening_ms", opening},
                         {"restore_ms", restore},
                         {"bytes", last.bytes},
                         {"stored_bytes", stored[i]},
                         {"recomputed_tokens", recomputed},
                         {"recomputed_rows", last.recomputed_rows},
                         {"prefix", last.plan.prefix},
                         {"predicted_ms", predicted},
                         {"bound_ms", bound},
                         {"bubble_ms", bubble},
                         {"rounds", report.rounds.size()},
                         {"discarded_rounds", report.discarded},
                         {"noisy", report.noisy},
                         {"against", chosen[baseline].name()},
                         {"ratio", comparison.ratio.median},
                         {"ratio_low", comparison.ratio.interval.low},
                         {"ratio_high", comparison.ratio.interval.high},
                         {"ratio_coverage", comparison.ratio.interval.coverage}});
      table.add({link.text, chosen[i].name(), eval::cell(ttft), eval::cell(predicted), eval::cell(bound),
                 eval::cell(bubble), human_bytes(static_cast<double>(last.bytes)),
                 human_bytes(static_cast<double>(stored[i])), std::to_string(recomputed),
                 eval::cell(comparison.ratio) + (report.noisy ? " disturbed" : "")});
      if (!options.trace.empty()) {
        const auto file = options.trace + "-" + chosen[i].name() + "-" + std::to_string(number) + ".json";
        traces.emplace_back(file, chrome_trace(last.timeline, chosen[i].name() + " over " + link.text));
      }
    }
  }
  tool.progress("");
  if (tool.json) {
    Json run = note.run(model);
    run["throttled_latency_ms"] = throttled_latency_s * 1e3;
    run["disk"] = options.warm ? "page cache warm" : "dropped from the page cache before each read";
    run["costs"] = options.calibrate ? "measured at the start of this run" : "kept from an earlier one";
    run["costs_disturbed"] = costs.rounds.disturbed;
    tool.print({{"tokens", options.tokens},
                {"prompt", options.prompt},
                {"results", results},
                {"summary", summary.json()},
                {"run", run}});
  } else {
    std::printf(
        "%s%s\nhistory of %zu tokens, prompt of %zu; times from opening the saved state to the prompt's logits; links "
        "of "
        "a stated\n"
        "rate have %.1f ms latency a request; files %s\n",
        table.text().c_str(), note.text().c_str(), options.tokens, options.prompt, throttled_latency_s * 1e3,
        options.warm ? "in the page cache" : "dropped from the page cache before each restore");
    summary.print();
    std::printf("costs %s\n%s",
                options.calibrate ? "measured at the start of this run" : "as kept; --calibrate measures them first",
                note_on_costs(costs.rounds.disturbed).c_str());
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
