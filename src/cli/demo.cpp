#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "bench.hpp"
#include "escaped.hpp"
#include "krul/eval/quality.hpp"
#include "krul/eval/result_table.hpp"
#include "krul/eval/save_history.hpp"
#include "krul/model/sampling.hpp"
#include "krul/store/stored_bytes.hpp"
#include "krul/strategy/catalogue.hpp"
#include "number_option.hpp"
#include "output_file.hpp"
#include "page_cache.hpp"
#include "profile_option.hpp"
#include "restore_once.hpp"
#include "run_rounds.hpp"
#include "temporary_folder.hpp"
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
  std::vector<Token> tokens;     ///< history and the returning user's message
  std::size_t history = 0;       ///< of them, saved
  std::vector<Token> reference;  ///< greedy continuation without any saving
  std::string logits_file;       ///< f32 [reference, vocabulary]: what that continuation was chosen from
};

Json to_json(const DemoCase& item) {
  return {{"id", item.id},
          {"tokens", item.tokens},
          {"history", item.history},
          {"reference", item.reference},
          {"logits_file", item.logits_file}};
}

DemoCase case_from(const Json& json) {
  return {json.at("id").get<std::string>(), json.at("tokens").get<std::vector<Token>>(),
          json.at("history").get<std::size_t>(), json.at("reference").get<std::vector<Token>>(),
          json.at("logits_file").get<std::string>()};
}

/// What the first process saves with.
struct Saving {
  LoadedModel& model;
  FileStore& store;
  std::filesystem::path folder;            ///< for what is handed to the second process
  std::shared_ptr<const Profile> profile;  ///< of the model; may be none
  MachineCosts costs;
};

/// Computes a conversation, saves it under every strategy, for every link where that matters, and continues it without
/// any saving.
DemoCase compute_and_save(const Saving& saving, const ConversationText& text, const DemoOptions& options) {
  LoadedModel& model = saving.model;
  DemoCase item{.id = text.id,
                .tokens = {},
                .history = 0,
                .reference = {},
                .logits_file = (saving.folder / (text.id + ".logits")).string()};
  const auto history = encode_messages(model, text.messages, false);
  auto with_next = text.messages;
  with_next.push_back({"user", text.next.empty() ? "Please go on." : text.next});
  item.tokens = encode_messages(model, with_next, true);
  item.history = history.size();
  expect_fits(model, item.tokens.size() + options.continuation);

  const std::size_t vocabulary = model.backend.geometry().vocabulary;
  const auto shown = demo_strategies(saving.profile);
  const MachineCosts& costs = saving.costs;
  auto exact =
      eval::prefill_exact(model.backend, history, item.tokens.size() - history.size() + options.continuation, shown);
  const auto links = unwrap(parse_links(options.links));
  std::set<std::string> saved;
  for (const auto& strategy : shown) {
    std::optional<StepScale> step;  // measuring it takes longer than the save
    for (const auto& link : links) {
      const std::string id = saved_id(text.id + "-", strategy, link);
      if (!saved.insert(id).second) continue;
      const LinkName rate = costs.resolved(link, model.backend.geometry(), history.size(), 32);
      const eval::HistorySave save{strategy, id, costs.costs(rate, strategy, model.backend.geometry()), step};
      step = unwrap(save_history(model.backend, saving.store, exact, history, save)).step;
    }
  }
  auto& cache = exact.cache;
  auto batch = model.backend.make_batch();

  std::vector<float> all(options.continuation * vocabulary);
  prefill(model.backend, cache, batch, std::span(item.tokens).subspan(item.history), std::span(all).first(vocabulary));
  for (std::size_t i = 0; i < options.continuation; ++i) {
    const Token token = greedy(std::span(all).subspan(i * vocabulary, vocabulary));
    item.reference.push_back(token);
    if (i + 1 < options.continuation)
      forward(model.backend, cache, batch, std::span(&token, 1),
              std::span(all).subspan((i + 1) * vocabulary, vocabulary));
  }
  write_file(item.logits_file, {reinterpret_cast<const char*>(all.data()), all.size() * sizeof(float)});
  return item;
}

/// What the greedy continuation without any saving was chosen from: [reference, vocabulary].
std::vector<float> read_logits(const DemoCase& item, std::size_t vocabulary) {
  std::vector<float> logits(item.reference.size() * vocabulary);
  std::ifstream in(item.logits_file, std::ios::binary);
  in.read(reinterpret_cast<char*>(logits.data()), static_cast<std::streamsize>(logits.size() * sizeof(float)));
  if (!in) throw Failure({ErrorCode::truncated, item.logits_file + " is too short"});
  return logits;
}

/// What the second process restores with.
struct Restoring {
  LoadedModel& model;
  FileStore& store;
  std::shared_ptr<const Profile> profile;  ///< of the model; may be none
  MachineCosts costs;
  const Tool& tool;
};

/// How a restored conversation goes on, beside the run without saving.
struct Continuation {
  double kl = 0;  ///< nats, mean over its tokens
  std::optional<std::size_t> first_difference;
};

/// A conversation in the second process.
struct RestoredCase {
  const DemoCase& item;
  std::vector<float> reference;                            ///< see read_logits
  std::map<std::string, Continuation> continuations = {};  ///< of what is saved under these ids
};

/// Runs the reference's tokens behind a restored conversation.
/// @param first  [vocabulary] logits of the prompt
template <class Talk>
Continuation compare(CpuModel& model, Talk& talk, const std::vector<float>& first, const RestoredCase& restored_case) {
  const DemoCase& item = restored_case.item;
  const std::size_t vocabulary = model.geometry().vocabulary, steps = item.reference.size();
  std::vector<float> logits(steps * vocabulary);
  std::copy(first.begin(), first.end(), logits.begin());
  auto batch = model.make_batch();
  forward(model, talk.cache(), batch, std::span(item.reference).first(steps - 1),
          std::span(logits).subspan(vocabulary));
  Continuation found;
  for (std::size_t i = 0; i < steps; ++i) {
    const auto row = [&](const std::vector<float>& all) {
      return NextToken(std::span(all).subspan(i * vocabulary, vocabulary));
    };
    const auto exact = row(restored_case.reference), restored = row(logits);
    found.kl += exact.divergence_from(restored) / static_cast<double>(steps);
    if (!found.first_difference && restored.top() != item.reference[i]) found.first_difference = i;
  }
  return found;
}

/// A restore over a link. What is on disk is read from there, not from memory.
template <class After>
RestoreFigure restore_over(const LinkName& link, FileStore& store, const Returning& returning,
                           const AnyStrategy& strategy, After&& after) {
  if (link.kind == LinkName::Kind::rate) {
    auto throttled = behind_link(store, link);
    return restore_once(returning, throttled, strategy, after);
  }
  if (link.kind == LinkName::Kind::disk) drop_from_page_cache(store.path() / unwrap(conversation_folder(returning.id)));
  return restore_once(returning, store, strategy, after);
}

/// What the demo shows.
struct DemoResults {
  Json rows = Json::array();
  RoundsNote note;
};

/// The table's rows of one conversation and link: restores under every strategy, in the same rounds. What is saved goes
/// on alike each time, so only its first restore is compared with the run without saving.
void measure(const Restoring& restoring, RestoredCase& restored_case, const LinkName& link, double patience_s,
             DemoResults& results) {
  const DemoCase& item = restored_case.item;
  const auto shown = demo_strategies(restoring.profile);
  const Geometry& geometry = restoring.model.backend.geometry();
  const LinkName rate = restoring.costs.resolved(link, geometry, item.history, 32);
  std::vector<eval::Alternative<RestoreFigure>> alternatives;
  for (std::size_t i = 0; i < shown.size(); ++i) {
    const Returning returning{restoring.model, restoring.costs.costs(rate, shown[i], geometry),
                              saved_id(item.id + "-", shown[i], link), item.tokens};
    const auto after = [&, id = returning.id](auto& talk, const std::vector<float>& first) {
      if (!restored_case.continuations.contains(id))
        restored_case.continuations[id] = compare(restoring.model.backend, talk, first, restored_case);
    };
    alternatives.push_back({shown[i].name(), [&, i, returning, after] {
                              return restore_over(rate, restoring.store, returning, shown[i], after);
                            }});
  }
  const auto report = run_rounds<RestoreFigure>(
      restoring.tool, "restoring " + item.id + " over " + rate.text, alternatives,
      {.clean_rounds = 3, .most_rounds = 5, .warm_up_rounds = 0, .least_round_s = 0, .patience_s = patience_s});
  results.note.add(report);
  for (std::size_t i = 0; i < shown.size(); ++i) {
    std::vector<RestoreFigure> figures;
    for (const auto& round : report.rounds) figures.push_back(round.passes[i].front());
    const auto middle = figures.begin() + static_cast<std::ptrdiff_t>((figures.size() - 1) / 2);
    std::nth_element(figures.begin(), middle, figures.end(),
                     [](const auto& a, const auto& b) { return a.first_token_s < b.first_token_s; });
    const RestoreReport& restore = middle->report;
    const std::string id = saved_id(item.id + "-", shown[i], link);
    const auto& [kl, first_difference] = restored_case.continuations.at(id);
    results.rows.push_back({{"conversation", item.id},
                            {"history", item.history},
                            {"strategy", shown[i].name()},
                            {"link", rate.text},
                            {"ttft_ms", middle->first_token_s * 1e3},
                            {"restore_ms", restore.first_token_s * 1e3},
                            {"bytes", restore.bytes},
                            {"stored_bytes", unwrap(stored_bytes(restoring.store, unwrap(conversation_folder(id))))},
                            {"recomputed_tokens", restore.recomputed_tokens()},
                            {"predicted_ms", restore.predicted.total_s() * 1e3},
                            {"bound_ms", restore.bound_s() * 1e3},
                            {"bubble_ms", restore.bubble_s() * 1e3},
                            {"kl", kl},
                            {"same_text", !first_difference},
                            {"first_difference", first_difference ? Json(*first_difference) : Json(nullptr)},
                            {"rounds", report.rounds.size()},
                            {"disturbed", report.noisy}});
  }
}

/// The second process: restores what the first one saved.
void restore_job(const DemoOptions& options, const Tool& tool) {
  const auto patience = options.patience.begin();
  const auto job = Json::parse(unwrap(read_text(options.job)));
  auto store = unwrap(FileStore::open(job.at("store").get<std::string>()));
  const auto links = unwrap(parse_links(options.links));
  auto model = options.model.load(tool);
  const auto profile = ProfileOption{}.load(model, tool);
  const Restoring restoring{model, store, profile, machine_costs(model, tool, profile, patience), tool};
  DemoResults results;
  std::size_t to_come = job.at("cases").size() * links.size();
  for (const auto& json : job.at("cases")) {
    const DemoCase item = case_from(json);
    RestoredCase restored_case{item, read_logits(item, model.backend.geometry().vocabulary)};
    for (const auto& link : links) measure(restoring, restored_case, link, patience.share_s(to_come--), results);
  }
  tool.progress("");
  Json run = results.note.run(model);
  run["costs_disturbed"] = restoring.costs.rounds.disturbed;
  run["throttled_latency_ms"] = throttled_latency_s * 1e3;
  tool.print({{"results", results.rows}, {"run", run}});
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
    say_if_missing(demo_strategies(profile), tool);
    const eval::Patience for_costs(patience.share_s(2));
    const Saving saving{model, store, folder.path(), profile, machine_costs(model, tool, profile, for_costs)};
    for (const auto& text : texts) {
      tool.progress("computing and saving " + text.id);
      const DemoCase item = compute_and_save(saving, text, options);
      job["cases"].push_back(to_json(item));
      if (!tool.json) {
        tool.progress("");
        std::printf(
            "%s: %zu tokens saved and dropped. The user returns: \"%s\"\nwithout any saving the reply begins: %s\n\n",
            escaped(text.id).c_str(), item.history, escaped(text.next).c_str(),
            escaped(model.tokenizer.decode(item.reference), Lines::many).c_str());
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
