#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "bench.hpp"
#include "escaped.hpp"
#include "krul/eval/greedy_text.hpp"
#include "krul/eval/restore_bench.hpp"
#include "krul/eval/result_table.hpp"
#include "krul/store/page_cache.hpp"
#include "krul/store/temporary_folder.hpp"
#include "krul/strategy/catalogue.hpp"
#include "machine_costs.hpp"
#include "number_option.hpp"
#include "output_file.hpp"
#include "profile_option.hpp"
#include "restore_json.hpp"
#include "texts.hpp"
#include "verbs.hpp"

namespace krul::cli {
namespace {

struct DemoOptions {
  ModelOptions model;
  std::string conversations;
  std::string links = "1.3x,disk";
  std::size_t count = 3;
  std::size_t continuation = 48;
  PatienceOption patience{demo_patience_s};
  std::string job;  ///< set in the second process
};

/// What the demo shows: the default beside what others do.
/// @param profile  of the model; may be none
std::vector<AnyStrategy> demo_strategies(const std::shared_ptr<const Profile>& profile) {
  return unwrap(strategy::all_named(strategy::catalogue(profile),
                                    "recompute,load-exact,load-f16,load-int8,minicache,partial,krul-paper,krul"));
}

/// What the second process needs to know of one conversation.
struct DemoCase {
  std::string id;
  std::vector<Token> tokens;   ///< history and the returning user's message
  std::size_t history = 0;     ///< of them, saved
  eval::GreedyText reference;  ///< without any saving
  std::string logits_file;     ///< that its logits are handed over in, f32
};

Json to_json(const DemoCase& item) {
  return {{"id", item.id},
          {"tokens", item.tokens},
          {"history", item.history},
          {"reference", item.reference.tokens},
          {"logits_file", item.logits_file}};
}

DemoCase case_from(const Json& json, std::size_t vocabulary) {
  DemoCase item{json.at("id").get<std::string>(),
                json.at("tokens").get<std::vector<Token>>(),
                json.at("history").get<std::size_t>(),
                {json.at("reference").get<std::vector<Token>>(), {}},
                json.at("logits_file").get<std::string>()};
  std::vector<float>& logits = item.reference.logits;
  logits.resize(item.reference.tokens.size() * vocabulary);
  std::ifstream in(item.logits_file, std::ios::binary);
  in.read(reinterpret_cast<char*>(logits.data()), static_cast<std::streamsize>(logits.size() * sizeof(float)));
  if (!in) throw Failure({ErrorCode::truncated, item.logits_file + " is too short"});
  return item;
}

/// What both processes work with.
struct DemoScene {
  LoadedModel& model;
  FileStore& store;
  std::vector<AnyStrategy> shown;
  MachineCosts costs;
  std::vector<LinkName> links;
  const Tool& tool;

  /// Where a link stands for a rate that depends on the conversation, that rate.
  [[nodiscard]] LinkName resolved(const LinkName& link, std::size_t history) const {
    return costs.resolved(link, model.backend.geometry(), history, 32);
  }
  [[nodiscard]] Costs costs_over(const LinkName& resolved_link, const AnyStrategy& strategy) const {
    return costs.of(strategy, model.backend.geometry().layers, resolved_link);
  }
};

/// Computes a conversation, saves it under every strategy, for every link where that matters, and continues it without
/// any saving.
/// @param folder  for what is handed to the second process
DemoCase compute_and_save(const DemoScene& scene, const ConversationText& text, const std::filesystem::path& folder,
                          std::size_t continuation) {
  LoadedModel& model = scene.model;
  const auto history = encode_messages(model, text.messages, false);
  auto with_next = text.messages;
  with_next.push_back({"user", text.next.empty() ? "Please go on." : text.next});
  DemoCase item{text.id, encode_messages(model, with_next, true), history.size(), {}, folder / (text.id + ".logits")};
  expect_fits(model, item.tokens.size() + continuation);
  auto exact =
      eval::prefill_exact(model.backend, history, item.tokens.size() - history.size() + continuation, scene.shown);
  AnyStore store = scene.store;
  std::set<std::string> saved;
  for (const auto& strategy : scene.shown) {
    std::optional<StepScale> step;  // measuring it takes longer than the save
    for (const auto& link : scene.links) {
      const std::string id = saved_id(text.id + "-", strategy, link);
      if (!saved.insert(id).second) continue;
      const Costs costs = scene.costs_over(scene.resolved(link, history.size()), strategy);
      step = unwrap(save_returning(model.backend, store, exact, history, {strategy, id, costs, step})).step;
    }
  }
  item.reference =
      eval::greedy_text(model.backend, exact.cache, std::span(item.tokens).subspan(item.history), continuation);
  const std::vector<float>& logits = item.reference.logits;
  write_file(item.logits_file, {reinterpret_cast<const char*>(logits.data()), logits.size() * sizeof(float)});
  return item;
}

/// How what is saved under an id goes on, beside the run without any saving.
using Divergences = std::map<std::string, eval::TextDivergence>;

/// The table's rows of one conversation and link: restores under every strategy, in the same rounds. What is saved goes
/// on alike each time, so only its first restore is compared with the run without saving.
std::pair<Json, RoundsNote> measure(const DemoScene& scene, const DemoCase& item, const LinkName& link,
                                    double patience_s, Divergences& divergences) {
  CpuModel& model = scene.model.backend;
  const LinkName rate = scene.resolved(link, item.history);
  const auto folder_of = [](const std::string& id) { return unwrap(conversation_folder(id)); };
  std::vector<eval::Returning> returning;
  for (const auto& strategy : scene.shown) {
    const std::string id = saved_id(item.id + "-", strategy, link);
    returning.push_back({.strategy = strategy,
                         .id = id,
                         .tokens = item.tokens,
                         .costs = scene.costs_over(rate, strategy),
                         .stored_bytes = unwrap(stored_bytes(scene.store, folder_of(id)))});
  }
  const auto cool = [&](const eval::Returning& each) { drop_from_page_cache(scene.store.path() / folder_of(each.id)); };
  auto over =
      announced(eval::benched_link(rate, scene.store, cool), "restoring " + item.id + " over " + rate.text, scene.tool);
  auto rounds = rounds_here(
      {.clean_rounds = 3, .most_rounds = 5, .warm_up_rounds = 0, .least_round_s = 0, .patience_s = patience_s});
  const auto compare = [&](std::size_t i, auto& restored) {
    if (!divergences.contains(returning[i].id))
      divergences[returning[i].id] =
          eval::divergence_from(item.reference, model, restored.conversation.cache(), restored.logits);
  };
  const auto report = unwrap(eval::bench_restores(model, over, returning, rounds, compare));
  const auto rows = eval::restore_rows(report);
  Json results = Json::array();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto& [kl, first_difference] = divergences.at(returning[i].id);
    Json row = {{"conversation", item.id}, {"history", item.history}};
    row.update(restore_json(rows[i], returning[i], rate));
    row.update({{"kl", kl},
                {"same_text", !first_difference},
                {"first_difference", first_difference ? Json(*first_difference) : Json(nullptr)},
                {"rounds", report.rounds.size()},
                {"disturbed", report.noisy}});
    results.push_back(std::move(row));
  }
  return {std::move(results), {report.noisy, report.cut_short}};
}

/// The second process: restores what the first one saved.
void restore_job(const DemoOptions& options, const Tool& tool) {
  const auto patience = options.patience.begin();
  const auto job = Json::parse(unwrap(read_text(options.job)));
  auto store = unwrap(FileStore::open(job.at("store").get<std::string>()));
  auto model = options.model.load(tool);
  const auto profile = ProfileOption{}.load(model, tool);
  const DemoScene scene{model,
                        store,
                        demo_strategies(profile),
                        machine_costs(model, tool, profile, patience.share_s()),
                        unwrap(parse_links(options.links)),
                        tool};
  Json results = Json::array();
  RoundsNote note;
  std::size_t to_come = job.at("cases").size() * scene.links.size();
  for (const auto& json : job.at("cases")) {
    const DemoCase item = case_from(json, model.backend.geometry().vocabulary);
    Divergences divergences;
    for (const auto& link : scene.links) {
      auto [rows, of_rows] = measure(scene, item, link, patience.share_s(to_come--), divergences);
      results.insert(results.end(), rows.begin(), rows.end());
      note.add(of_rows);
    }
  }
  tool.progress("");
  Json run = note.run(model);
  run["costs_disturbed"] = scene.costs.disturbed;
  run["throttled_latency_ms"] = throttled_latency_s * 1e3;
  tool.print({{"results", results}, {"run", run}});
}

/// Runs this program again with the same model, the job and what is left of patience; its standard output.
std::string run_second_process(const DemoOptions& options, const std::filesystem::path& job, double patience_s) {
  std::vector<std::string> words = {"krul",          "demo",
                                    "--restore-job", job.string(),
                                    "--links",       options.links,
                                    "--threads",     std::to_string(options.model.threads),
                                    "--kernels",     options.model.kernels,
                                    "--precision",   options.model.precision,
                                    "--cache",       options.model.cache,
                                    "--patience",    std::to_string(patience_s)};
  if (!options.model.path.empty()) words.insert(words.end(), {"--model", options.model.path});
  std::vector<char*> arguments;
  for (auto& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  int ends[2];
  if (::pipe(ends) != 0) throw Failure({ErrorCode::io, "cannot open a pipe to the second process"});
  const pid_t child = ::fork();
  if (child < 0) throw Failure({ErrorCode::io, "cannot start the second process"});
  if (child == 0) {
    ::dup2(ends[1], STDOUT_FILENO);
    ::close(ends[0]);
    ::close(ends[1]);
    ::execv("/proc/self/exe", arguments.data());
    ::_exit(127);
  }
  ::close(ends[1]);
  std::string output;
  char buffer[4096];
  for (ssize_t got; (got = ::read(ends[0], buffer, sizeof buffer)) > 0;)
    output.append(buffer, static_cast<std::size_t>(got));
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  if (status != 0) throw Failure({ErrorCode::backend, "the second process, which restores, has failed"});
  return output;
}

void print_table(const Json& results) {
  using Align = eval::ResultTable::Align;
  eval::ResultTable table({{"conversation", "", Align::left},
                           {"tokens"},
                           {"link", "", Align::left},
                           {"strategy", "", Align::left},
                           {"first token", "ms"},
                           {"predicted", "ms"},
                           {"read"},
                           {"stored"},
                           {"KL", "nats"},
                           {"text", "", Align::left},
                           {"rounds", "", Align::left}});
  for (const auto& row : results) {
    const auto difference = row.at("first_difference");
    table.add({escaped(row.at("conversation").get<std::string>()), std::to_string(row.at("history").get<std::size_t>()),
               row.at("link").get<std::string>(), row.at("strategy").get<std::string>(),
               eval::cell(row.at("ttft_ms").get<double>(), 0), eval::cell(row.at("predicted_ms").get<double>(), 0),
               human_bytes(row.at("bytes").get<double>()), human_bytes(row.at("stored_bytes").get<double>()),
               eval::cell(row.at("kl").get<double>(), 5),
               difference.is_null() ? "same" : "differs at " + std::to_string(difference.get<std::size_t>()),
               mark_of_rounds(row.at("rounds").get<std::size_t>(), row.at("disturbed").get<bool>())});
  }
  std::printf("%s", table.text().c_str());
}

void demo(const DemoOptions& options, const Tool& tool) {
  if (!options.job.empty()) return restore_job(options, tool);
  const auto patience = options.patience.begin();
  unwrap(parse_links(options.links));
  auto texts = load_conversations(options.conversations);
  if (texts.size() > options.count) texts.resize(options.count);
  const auto folder = unwrap(TemporaryFolder::make(cache_folder()));
  Json job = {{"store", (folder.path() / "store").string()}, {"cases", Json::array()}};
  {
    auto model = options.model.load(tool);
    auto store = unwrap(FileStore::open(folder.path() / "store", {.durability = Durability::none}));
    const auto profile = ProfileOption{}.load(model, tool);
    const DemoScene scene{model,
                          store,
                          demo_strategies(profile),
                          machine_costs(model, tool, profile, patience.share_s(2)),
                          unwrap(parse_links(options.links)),
                          tool};
    say_if_missing(scene.shown, tool);
    for (const auto& text : texts) {
      tool.progress("computing and saving " + text.id);
      const DemoCase item = compute_and_save(scene, text, folder.path(), options.continuation);
      job["cases"].push_back(to_json(item));
      if (!tool.json) {
        tool.progress("");
        std::printf(
            "%s: %zu tokens saved and dropped. The user returns: \"%s\"\nwithout any saving the reply begins: %s\n\n",
            escaped(text.id).c_str(), item.history, escaped(text.next).c_str(),
            escaped(model.tokenizer.decode(item.reference.tokens), Lines::many).c_str());
        std::fflush(stdout);
      }
    }
  }
  const auto job_file = folder.path() / "job.json";
  write_file(job_file, job.dump());
  if (!tool.json) {
    std::printf("a second process restores them under every strategy:\n");
    std::fflush(stdout);
  }
  const Json found = Json::parse(run_second_process(options, job_file, patience.share_s()));
  if (tool.json) return tool.print(found);
  print_table(found.at("results"));
  const Json& run = found.at("run");
  const RoundsNote note{run.at("disturbed").get<bool>(), run.at("cut_short").get<bool>()};
  std::printf(
      "%s\nfirst token: from opening the saved state to the prompt's logits, median of the rounds; disk: dropped from "
      "the "
      "page cache before;\n"
      "KL and text: %zu greedy tokens against the run without any saving. %s, %s, cache %s.\n%s",
      note.text().c_str(), options.continuation, run.at("kernels").get<std::string>().c_str(),
      run.at("processor").get<std::string>().c_str(), run.at("cache").get<std::string>().c_str(),
      note_on_costs(run.at("costs_disturbed").get<bool>()).c_str());
}

}  // namespace

void add_demo(CLI::App& program, Tool& tool) {
  auto options = std::make_shared<DemoOptions>();
  auto* verb = program.add_subcommand("demo", "the main job on real conversations, with the baselines beside it");
  options->model.add_to(*verb);
  verb->add_option("--conversations", options->conversations, "JSON lines; without it, the program's own");
  verb->add_option("--links,--link", options->links,
                   "links, separated by commas: 50MB/s, disk, memory, or 1.3x: where recomputing takes so many times "
                   "as long as loading")
      ->capture_default_str();
  verb->add_option("--count", options->count, "conversations")
      ->check(between<std::size_t>(1, 1000))
      ->capture_default_str();
  verb->add_option("--continuation", options->continuation, "greedy tokens that are compared")
      ->check(between<std::size_t>(2, 1024))
      ->capture_default_str();
  options->patience.add_to(*verb);
  verb->add_option("--restore-job", options->job)->group("");
  verb->callback([options, &tool] { demo(*options, tool); });
}

}  // namespace krul::cli
