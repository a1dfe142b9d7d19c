#include <cstdio>
#include <memory>
#include <optional>

#include "bench.hpp"
#include "json_table.hpp"
#include "krul/conversation/saved_conversations.hpp"
#include "krul/core/unique_name.hpp"
#include "krul/eval/restore_bench.hpp"
#include "krul/eval/scratch_disk.hpp"
#include "krul/store/page_cache.hpp"
#include "krul/strategy/catalogue.hpp"
#include "machine_costs.hpp"
#include "number_option.hpp"
#include "output_file.hpp"
#include "profile_option.hpp"
#include "restore_json.hpp"
#include "store_option.hpp"
#include "verbs.hpp"
#include "without_effect.hpp"

namespace krul::cli {
namespace {

struct RestoreBenchOptions {
  ModelOptions model;
  ProfileOption profile;
  StoreOptions store;  ///< takes the links' place
  std::size_t tokens = 1024;
  std::size_t prompt = 32;
  std::string links = "25MB/s,50MB/s,117MB/s,disk";
  std::string saved_for;
  std::string strategies = "recompute,load-exact,load-f16,load-int8,partial,krul";
  std::string against;  ///< one of them; empty: load-f16 if it is among them, else the first
  std::string trace;
  bool warm = false;
  bool stays_open = false;
  bool calibrate = false;
  RoundsOption rounds;
};

/// "median" and "p90"; null if there are none.
Json spread(const std::vector<double>& values, double scale = 1) {
  if (values.empty()) return nullptr;
  const auto [median, p90] = eval::Spread::of(values);
  return {{"median", scale * median}, {"p90", scale * p90}};
}

std::string spread_text(const std::vector<double>& values, double scale, const std::string& unit) {
  const auto [median, p90] = eval::Spread::of(values);
  return eval::cell(scale * median) + unit + " in the median, " + eval::cell(scale * p90) + unit + " in 9 of 10";
}

/// Of the strategies that were chosen.
std::size_t baseline_of(const RestoreBenchOptions& options, const std::vector<AnyStrategy>& chosen) {
  const auto found = eval::baseline_among(chosen, options.against);
  if (found) return *found;
  throw Failure({ErrorCode::invalid_argument, "--against " + found.error().message + ": " + options.strategies});
}

/// A row's line in the table.
Json line_of(const Json& result, const eval::RestoreRow& row) {
  Json line = result;
  line["read"] = human_bytes(line["bytes"].get<double>());
  line["stored"] = human_bytes(line["stored_bytes"].get<double>());
  line["against"] = eval::cell(row.ratio) + (result["noisy"] ? " disturbed" : "");
  return line;
}

/// What a measurement saved in a store that is not its own.
class Guests {
 public:
  Guests(AnyStore store, std::vector<std::string> ids) : store_(std::move(store)), ids_(std::move(ids)) {}
  Guests(const Guests&) = delete;
  Guests& operator=(const Guests&) = delete;
  ~Guests() {
    for (const std::string& id : ids_) static_cast<void>(erase_saved(store_, id));  // it may not have come to be there
  }

 private:
  AnyStore store_;
  std::vector<std::string> ids_;
};

void bench_restore(const RestoreBenchOptions& options, const Tool& tool) {
  std::optional<OpenedStore> place;
  if (!options.store.places.empty()) place = options.store.open(StoreUse::change);
  auto links = unwrap(parse_links(place ? "disk" : options.links));
  if (place) links.front().text = place->name;
  std::optional<LinkName> saved_for;
  if (!options.saved_for.empty()) saved_for = unwrap(parse_link(options.saved_for));
  for (const LinkName& link : links) expect_leads_to(options.model, link);
  if (saved_for) expect_leads_to(options.model, *saved_for);
  const auto known = unwrap(strategy::all_named(strategy::catalogue(), options.strategies));  // before all is loaded
  const std::size_t baseline = baseline_of(options, known);
  auto model = options.model.load(tool);
  expect_fits(model, options.tokens + options.prompt);
  const auto profile = options.profile.load(model, tool);
  auto chosen = unwrap(strategy::all_named(strategy::catalogue(profile), options.strategies));
  say_if_missing(chosen, tool);
  const auto patience = options.rounds.patience.begin();
  const double for_costs = patience.share_s(links.size() + 1);
  const MeasuredPlace measured = place ? options.store.measured(*place) : MeasuredPlace{cache_folder()};
  if (options.calibrate) measure_anew(model, measured, tool, for_costs);
  auto costs = machine_costs(model, tool, profile, for_costs, measured);
  const auto resolve = [&](LinkName& link) {
    link = costs.resolved(link, model.backend.geometry(), options.tokens, options.prompt);
  };
  std::ranges::for_each(links, resolve);
  if (saved_for) resolve(*saved_for);

  eval::ScratchStores stores{unwrap(eval::ScratchDisk::make(cache_folder()))};
  tool.progress("computing " + std::to_string(options.tokens) + " tokens");
  eval::SharedHistory shared(model.backend, std::move(chosen), std::move(costs),
                             sample_tokens(model, options.tokens + options.prompt), options.tokens);

  const std::string prefix = "bench-" + unique_name() + "-";  // no conversation of anybody's has such an id
  Json results = Json::array(), lines = Json::array();
  std::vector<std::pair<std::string, std::string>> traces;  // file, content
  RoundsNote note;
  eval::RestoreSummary summary;
  const std::string against = shared.strategies()[baseline].name();
  for (std::size_t number = 0; number < links.size(); ++number) {
    const LinkName& link = links[number];
    AnyStore& store = place ? place->store : stores.behind(link);
    std::vector<std::string> ids;
    for (const AnyStrategy& strategy : shared.strategies()) ids.push_back(eval::saved_id(prefix, strategy, link));
    const Guests guests(store, std::move(ids));
    auto saved = unwrap(shared.save(store, prefix, saved_for.value_or(link), link, [&](const AnyStrategy& strategy) {
      tool.progress("saving with " + strategy.name() + " for " + link.text);
    }));
    for (eval::Returning& each : saved) each.stays_open = options.stays_open;
    const auto cool = [&](const auto&) {
      if (options.warm || measured.far) return;
      if (place) drop_from_page_cache(measured.folder);
      if (!place) stores.disk.cool();
    };
    auto over = announced(eval::benched_link(link, store, cool), "restoring over " + link.text, tool);
    auto rounds = rounds_here(options.rounds.with(patience.share_s(links.size() - number)));
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
      lines.push_back(line_of(result, row));
      results.push_back(std::move(result));
      if (!options.trace.empty())
        traces.emplace_back(options.trace + "-" + row.strategy + "-" + std::to_string(number) + ".json",
                            chrome_trace(row.last.timeline, row.strategy + " over " + link.text));
    }
  }
  tool.progress("");
  if (tool.json) {
    Json run = note.run(model);
    if (place) run["store"] = place->name;
    if (!place) run["throttled_latency_ms"] = throttled_latency_s * 1e3;
    if (!measured.far) run["disk"] = options.warm ? "page cache warm" : "dropped from the page cache before each read";
    run["stays_open"] = options.stays_open;
    run["costs"] = options.calibrate ? "measured at the start of this run" : "kept from an earlier one";
    run["costs_disturbed"] = shared.costs().disturbed;
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
    const auto table = table_text(lines, {JsonColumn::text("link", "link"),
                                          JsonColumn::text("strategy", "strategy"),
                                          {{"ttft_ms"}, "first token", "ms"},
                                          {{"predicted_ms"}, "predicted", "ms"},
                                          {{"bound_ms"}, "bound", "ms"},
                                          {{"bubble_ms"}, "bubble", "ms"},
                                          {{"read"}, "read"},
                                          {{"stored"}, "stored"},
                                          {{"recomputed_tokens"}, "recomputed", "tokens", 0},
                                          {.keys = {"against"},
                                           .title = "time against " + against,
                                           .unit = "median [95 %]",
                                           .align = JsonColumn::Align::left}});
    std::printf("%s%s\nhistory of %zu tokens, prompt of %zu; times from %s to the prompt's logits\n", table.c_str(),
                note.text().c_str(), options.tokens, options.prompt,
                options.stays_open ? "the restore of a conversation that stayed open" : "opening the saved state");
    if (!place)
      std::printf("links of a stated rate have %.1f ms latency, if they name none\n", throttled_latency_s * 1e3);
    if (!measured.far)
      std::printf("files %s\n", options.warm ? "in the page cache" : "dropped from the page cache before each restore");
    if (!summary.prediction_errors.empty())
      std::printf("%zu predictions are off by %s\n", summary.prediction_errors.size(),
                  spread_text(summary.prediction_errors, 100, " %").c_str());
    std::printf("bubble: %s; of the time to the first token: %s\n", spread_text(summary.bubbles_s, 1e3, " ms").c_str(),
                spread_text(summary.bubble_shares, 100, " %").c_str());
    std::printf("costs %s\n%s",
                options.calibrate ? "measured at the start of this run" : "as kept; --calibrate measures them first",
                note_on_costs(shared.costs().disturbed).c_str());
  }
  for (const auto& [file, trace] : traces) write_file(file, trace);
}

}  // namespace

void add_bench_restore(CLI::App& bench, Tool& tool) {
  auto options = std::make_shared<RestoreBenchOptions>();
  auto* verb = bench.add_subcommand("restore", "time to first token of a returning conversation");
  options->model.add_to(*verb);
  options->profile.add_to(*verb);
  options->store.add_to(*verb);
  verb->get_option("--store")
      ->description(
          "save in a store that is there and restore from it, in the place of --link: a folder, "
          "redis://host:port, s3://bucket/prefix, or several with commas between them, near before far")
      ->default_str("");
  add_number(*verb, "--tokens", options->tokens, {1, 1 << 20}, "history");
  add_number(*verb, "--prompt", options->prompt, {1, 1 << 16}, "new tokens");
  verb->add_option("--link", options->links, "links, separated by commas: 100MB/s, disk, memory, on a device also pcie")
      ->capture_default_str();
  verb->add_option("--saved-for", options->saved_for, "the link that saves are planned for, if it is another one");
  verb->add_option("--strategies", options->strategies, "names, separated by commas")->capture_default_str();
  verb->add_option("--against", options->against,
                   "the one of them whose time the others are compared with; without it load-f16, or the first");
  options->rounds.add_count_to(*verb);
  verb->add_flag("--calibrate", options->calibrate, "measure the costs that predictions need first, and keep them");
  verb->add_flag("--warm", options->warm, "leave the files in the page cache");
  verb->add_flag("--stays-open", options->stays_open,
                 "without opening: as where a server drops the rows of a conversation and keeps its manifest");
  options->rounds.patience.add_to(*verb);
  verb->add_option("--trace", options->trace,
                   "write timelines (Chrome trace events, for Perfetto) to files that begin so");
  verb->callback([verb, options, &tool] {
    if (verb->count("--store") > 0) refuse_without_effect(*verb, "--link", "where --store says what is restored from");
    refuse_without_effect(*verb, "--store-bytes", "here, where nothing makes room for what is measured");
    if (options->links.find("disk") == std::string::npos)
      refuse_without_effect(*verb, "--warm", "where no --link is disk");
    bench_restore(*options, tool);
  });
}

}  // namespace krul::cli
