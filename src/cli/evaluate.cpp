#include "evaluate.hpp"

#include <cstdio>
#include <memory>

#include "bench.hpp"
#include "csv.hpp"
#include "krul/strategy/catalogue.hpp"
#include "krul/strategy/catalogue/coded_by_profile.hpp"
#include "number_option.hpp"
#include "output_file.hpp"
#include "verbs.hpp"
#include "without_effect.hpp"

namespace krul::cli {

std::vector<eval::TokenText> long_enough(const Evaluation& run, std::size_t least_tokens) {
  auto found = eval::long_enough(token_texts(run.model, run.options.conversations), least_tokens, run.options.limit);
  if (!found.empty()) return found;
  throw Failure({ErrorCode::invalid_argument, "no conversation is long enough: they need " +
                                                  std::to_string(least_tokens) +
                                                  " tokens; choose a smaller --history"});
}

std::vector<eval::CutText> cut_texts(const Evaluation& run) {
  const auto& options = run.options;
  return eval::cut_texts(long_enough(run, options.history / 2 + options.fresh), options.history, options.fresh);
}

Json json_of(const eval::Figures& figures) {
  Json object = Json::object();
  for (const auto& [name, value] : figures)
    std::visit(
        [&object, &name = name](const auto& found) {
          if constexpr (std::is_same_v<std::decay_t<decltype(found)>, std::monostate>)
            object[name] = nullptr;
          else
            object[name] = found;
        },
        value);
  return object;
}

Json json_of(const std::vector<eval::EvaluatedContender>& rows, const std::string& what) {
  const auto labelled = [](Json row, const eval::Figures& figures) {
    row.update(json_of(figures));
    return row;
  };
  Json found = Json::array();
  for (const auto& contender : rows) {
    Json row = labelled({{"name", contender.name}}, contender.all);
    row["sources"] = Json::array();
    for (const auto& [source, figures] : contender.by_source)
      row["sources"].push_back(labelled({{"source", source}}, figures));
    for (const auto& [id, source, figures] : contender.cases)
      row["by_" + what].push_back(labelled({{"id", id}, {"source", source}}, figures));
    found.push_back(std::move(row));
  }
  return found;
}

void print_evaluation(const Evaluation& run, const EvaluationResult& result) {
  run.tool.progress("");
  say_if_missing(run.strategies, run.tool);
  if (run.tool.json) {
    Json object = {{"strategies", result.strategies}};
    object.update(result.more);
    object.update({{"link", run.link.text}, {"run", describe_run(run.model)}});
    run.tool.print(object);
  } else {
    std::printf("%s", result.table.c_str());
  }
  // Last: what was measured is shown even if the file cannot be written.
  if (!run.options.csv.empty()) write_file(run.options.csv, csv_text(result.csv));
}

namespace {

std::string table_by_source(const Json& strategies, const TableBySource& table) {
  std::vector<JsonColumn> all = {JsonColumn::text("name", table.names), JsonColumn::text("source", "data")};
  all.insert(all.end(), table.columns.begin(), table.columns.end());
  Json rows = Json::array();
  for (const Json& strategy : strategies) {
    rows.push_back(strategy);
    rows.back()["source"] = "all";
    if (strategy["sources"].size() > 1) rows.insert(rows.end(), strategy["sources"].begin(), strategy["sources"].end());
  }
  return table_text(rows, all) + "\n" + table.below + "\n";
}

/// One flat row for each strategy and source, "all" first.
Json rows_by_source(const Evaluation& run, const Json& strategies) {
  Json rows = Json::array();
  for (const auto& strategy : strategies) {
    const auto add = [&](const std::string& source, const Json& figures) {
      Json row = {{"model", run.model.name}, {"strategy", strategy["name"]}, {"source", source}};
      if (run.options.tasks.empty()) row.update({{"history", run.options.history}, {"new", run.options.fresh}});
      row["link"] = run.options.link;
      for (const auto& [key, value] : figures.items())
        if (!value.is_structured() && key != "name" && key != "source") row[key] = value;
      rows.push_back(std::move(row));
    };
    add("all", strategy);
    for (const auto& source : strategy["sources"]) add(source["source"], source);
  }
  return rows;
}

}  // namespace

void print_by_source(const Evaluation& run, const Json& strategies, const Json& more, const TableBySource& table) {
  print_evaluation(run, {.strategies = strategies,
                         .csv = rows_by_source(run, strategies),
                         .more = more,
                         .table = table_by_source(strategies, table)});
}

namespace {

void evaluate(const EvaluateOptions& options, const Tool& tool) {
  const auto link = unwrap(parse_link(options.link));
  expect_leads_to(options.model, link);
  static_cast<void>(
      unwrap(strategy::all_named(strategy::catalogue(), options.strategies)));  // before anything is loaded
  auto model = options.model.load(tool);
  if (options.tasks.empty()) expect_fits(model, options.history + options.fresh + options.greedy);
  if (!options.precisions.empty()) {
    Evaluation run{options, tool, {}, link, std::move(model), {}};
    return evaluate_precision(run);
  }
  const auto profile = options.profile.load(model, tool);
  auto strategies = unwrap(strategy::all_named(strategy::catalogue(profile), options.strategies));
  auto peers = options.peers.load(model, tool);
  auto costs = machine_costs(model, tool, profile);
  const auto rate = costs.resolved(link, model.backend.geometry(), options.history, options.fresh);
  Evaluation run{options, tool, std::move(strategies), rate, std::move(model), std::move(costs)};
  run.peers = std::move(peers);
  for (const int code : options.steps)
    for (const strategy::FinerRows finer : strategy::all_finer_rows)
      if (std::ranges::find(options.finer, strategy::name_of(finer)) != options.finer.end())
        run.strategies.push_back(strategy::coded_at_step({static_cast<std::int8_t>(code)}, profile, finer));
  for (const double kl : options.targets) run.strategies.push_back(strategy::coded_for(kl, profile));
  if (options.greedy > 0) {
    evaluate_greedy(run);
  } else if (!options.tasks.empty()) {
    evaluate_tasks(run);
  } else if (options.turns > 0) {
    evaluate_turns(run);
  } else {
    evaluate_quality(run);
  }
}

}  // namespace

void add_evaluate(CLI::App& program, Tool& tool) {
  auto options = std::make_shared<EvaluateOptions>();
  auto* verb = program.add_subcommand("evaluate", "quality and size of strategies on conversations");
  options->model.add_to(*verb);
  options->profile.add_to(*verb);
  auto* peers = options->peers.add_to(*verb);
  auto* conversations = verb->add_option("--conversations", options->conversations,
                                         "JSON lines, one file or several; without it, the demo's own");
  auto* tasks = verb->add_option("--tasks", options->tasks,
                                 "JSON lines: how likely the answers to questions on a restored text are");
  verb->add_option("--strategies", options->strategies, "names, separated by commas")->capture_default_str();
  verb->add_option(
          "--steps", options->steps,
          "also codings by the profile with steps of 2^(code/16), codes separated by commas: the curve of size "
          "and quality")
      ->delimiter(',')
      ->check(between(-80, 80));  // classes of rows add up to 48 on either side
  verb->add_option("--kl", options->targets,
                   "also codings by the profile at the step that is measured for each conversation, for these KL in "
                   "nats, separated by commas")
      ->delimiter(',')
      ->check(between(1e-5, 1.0));
  std::vector<std::string> finer_names;
  for (const strategy::FinerRows finer : strategy::all_finer_rows) finer_names.emplace_back(strategy::name_of(finer));
  verb->add_option(
          "--finer", options->finer,
          "with --steps: which rows are coded more finely, several separated by commas; oracle: by what will come")
      ->delimiter(',')
      ->check(CLI::IsMember(finer_names))
      ->capture_default_str();
  add_number(*verb, "--history", options->history, {2, 1 << 20}, "tokens that are saved and restored");
  add_number(*verb, "--new", options->fresh, {2, 4096}, "tokens of new input after them");
  add_number(*verb, "--limit", options->limit, {0, 1 << 30}, "conversations or tasks of each source; 0 means all");
  auto* turns = verb->add_option("--turns", options->turns,
                                 "cut history and new input into so many turns; save and restore after each of them")
                    ->check(between<std::size_t>(2, 1000));
  auto* greedy = verb->add_option("--greedy", options->greedy,
                                  "instead of the quality of predictions: tokens until the greedy text after the new "
                                  "input differs from the exact state's, of so many")
                     ->check(between<std::size_t>(1, 4096));
  verb->add_flag("--rewrite", options->rewrite, "with --turns: code all rows again after each turn, to measure drift")
      ->needs(turns);
  verb->add_option("--last-turn", options->last_turn,
                   "with --turns: tokens of the last one, so that it is the same for any number of turns before it")
      ->needs(turns)
      ->check(between<std::size_t>(2, 4096));
  auto* precisions =
      verb->add_option("--precisions", options->precisions,
                       "instead of strategies: how far each precision's predictions are from those of --precision")
          ->delimiter(',')
          ->check(CLI::IsMember({"f32", "bf16", "f16", "int8", "auto"}))
          ->excludes(tasks)
          ->excludes(turns)
          ->excludes(greedy)
          ->excludes(peers);
  verb->add_option("--link", options->link, "link that is planned for: 100MB/s, disk or memory")->capture_default_str();
  verb->add_option("--csv", options->csv, "also write the figures here, one row for each strategy and source");
  for (const auto* option : {"--strategies", "--steps", "--kl", "--profile", "--link"}) precisions->excludes(option);
  tasks->excludes(conversations)->excludes(turns)->excludes(greedy)->excludes(peers);
  turns->excludes(greedy)->excludes(peers);
  verb->callback([verb, options, &tool] {
    if (!options->tasks.empty() && unwrap(parse_link(options->link)).kind != LinkName::Kind::relative)
      for (const auto* length : {"--history", "--new"})
        refuse_without_effect(*verb, length, "with --tasks, but for a --link such as 1.3x");
    evaluate(*options, tool);
  });
}

}  // namespace krul::cli
