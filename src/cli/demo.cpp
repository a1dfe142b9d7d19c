#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <memory>

#include "../core/descriptor.hpp"
#include "bench.hpp"
#include "json_table.hpp"
#include "krul/core/temporary_folder.hpp"
#include "krul/eval/return_scene.hpp"
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
/// @param costs_patience_s  for measuring the machine, if that was never done
eval::ReturnScene<AnyModel> scene_of(LoadedModel& model, const FileStore& store, const std::string& links,
                                     double costs_patience_s, const Tool& tool) {
  const auto profile = ProfileOption{}.load(model, tool);
  return {model.backend,
          store,
          {unwrap(strategy::all_named(strategy::catalogue(profile),
                                      "recompute,load-exact,load-f16,load-int8,minicache,partial,krul-paper,krul")),
           unwrap(parse_links(links)), machine_costs(model, tool, profile, costs_patience_s)}};
}

eval::ReturningText text_of(const ModelText& model, const ConversationText& conversation) {
  auto messages = conversation.messages;
  const std::size_t history = encode_messages(model, messages, false).size();
  messages.push_back({"user", conversation.next.empty() ? "Please go on." : conversation.next});
  return {conversation.id, encode_messages(model, messages, true), history};
}

Json rows_of(const eval::ReturningText& text, const eval::ReturnedRows& found) {
  Json rows = Json::array();
  for (const auto& [saved, restore, divergence] : found.rows) {
    const auto& [kl, first_difference] = divergence;
    Json row = {{"conversation", text.id}, {"history", text.history}};
    row.update(restore_json(restore, saved, found.link));
    row.update({{"kl", kl},
                {"same_text", !first_difference},
                {"first_difference", first_difference ? Json(*first_difference) : Json(nullptr)},
                {"rounds", found.rounds},
                {"disturbed", found.noisy}});
    rows.push_back(std::move(row));
  }
  return rows;
}

/// The second process: restores what the first one saved.
void restore_job(const DemoOptions& options, const Tool& tool) {
  const auto patience = options.patience.begin();
  const auto job = Json::parse(unwrap(read_text(options.job)));
  auto model = options.model.load(tool);
  auto scene = scene_of(model, unwrap(FileStore::open(job.at("store").get<std::string>())), options.links,
                        patience.share_s(), tool);
  Json results = Json::array();
  RoundsNote note;
  std::size_t to_come = job.at("cases").size() * scene.parts().links.size();
  for (const auto& file : job.at("cases")) {
    const auto text = unwrap(eval::read_returning(file.get<std::string>()));
    for (const auto& link : scene.parts().links) {
      auto rounds = rounds_here({.clean_rounds = 3,
                                 .most_rounds = 5,
                                 .warm_up_rounds = 0,
                                 .least_round_s = 0,
                                 .patience_s = patience.share_s(to_come--)});
      const std::string what = "restoring " + text.id + " over " + scene.resolved(link, text.history).text + ": ";
      const auto found = unwrap(scene.restore(
          text, link, rounds, [&](const eval::Returning& each) { tool.progress(what + each.strategy.name()); }));
      for (Json& row : rows_of(text, found)) results.push_back(std::move(row));
      note.add({found.noisy, found.cut_short});
    }
  }
  tool.progress("");
  Json run = note.run(model);
  run["costs_disturbed"] = scene.parts().costs.disturbed;
  run["throttled_latency_ms"] = throttled_latency_s * 1e3;
  tool.print({{"results", results}, {"run", run}});
}

/// Runs this program again with the same model, the job and what is left of patience; its standard output.
std::string run_second_process(const DemoOptions& options, const std::filesystem::path& job, double patience_s) {
  std::vector<std::string> words = {"krul",          "demo",
                                    "--restore-job", job.string(),
                                    "--links",       options.links,
                                    "--device",      options.model.device,
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
  if (::pipe2(ends, O_CLOEXEC) != 0) throw Failure({ErrorCode::io, "cannot open a pipe to the second process"});
  const detail::Descriptor from(ends[0]);
  detail::Descriptor to(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) throw Failure({ErrorCode::io, "cannot start the second process"});
  if (child == 0) {
    ::dup2(to.get(), STDOUT_FILENO);
    ::execv("/proc/self/exe", arguments.data());
    ::_exit(127);
  }
  to = detail::Descriptor();
  std::string output;
  char buffer[4096];
  for (ssize_t got; (got = detail::uninterrupted([&] { return ::read(from.get(), buffer, sizeof buffer); })) > 0;)
    output.append(buffer, static_cast<std::size_t>(got));
  int status = 0;
  detail::uninterrupted([&] { return ::waitpid(child, &status, 0); });
  if (status != 0) throw Failure({ErrorCode::backend, "the second process, which restores, has failed"});
  return output;
}

std::string table_of(const Json& results) {
  const auto bytes = [](const Json& value) { return human_bytes(value.get<double>()); };
  const auto difference = [](const Json& value) {
    return value.is_null() ? "same" : "differs at " + std::to_string(value.get<std::size_t>());
  };
  const auto of_rounds = [](const Json& value) {
    if (value.is_boolean()) return std::string(value.get<bool>() ? "disturbed" : "clean");
    return std::to_string(value.get<std::size_t>());
  };
  using Align = eval::ResultTable::Align;
  return table_text(results,
                    {JsonColumn::text("conversation", "conversation"),
                     {.keys = {"history"}, .title = "tokens", .decimals = 0},
                     JsonColumn::text("link", "link"),
                     JsonColumn::text("strategy", "strategy"),
                     {.keys = {"ttft_ms"}, .title = "first token", .unit = "ms", .decimals = 0},
                     {.keys = {"predicted_ms"}, .title = "predicted", .unit = "ms", .decimals = 0},
                     {.keys = {"bytes"}, .title = "read", .show = bytes},
                     {.keys = {"stored_bytes"}, .title = "stored", .show = bytes},
                     {.keys = {"kl"}, .title = "KL", .unit = "nats", .decimals = 5},
                     {.keys = {"first_difference"}, .title = "text", .align = Align::left, .show = difference},
                     {.keys = {"rounds", "disturbed"}, .title = "rounds", .align = Align::left, .show = of_rounds}});
}

void demo(const DemoOptions& options, const Tool& tool) {
  if (!options.job.empty()) return restore_job(options, tool);
  const auto patience = options.patience.begin();
  for (const LinkName& link : unwrap(parse_links(options.links))) expect_leads_to(options.model, link);
  auto texts = load_conversations(options.conversations);
  if (texts.size() > options.count) texts.resize(options.count);
  const auto folder = unwrap(TemporaryFolder::make(cache_folder()));
  Json job = {{"store", (folder.path() / "store").string()}, {"cases", Json::array()}};
  {
    auto model = options.model.load(tool);
    auto store = unwrap(FileStore::open(folder.path() / "store", {.durability = Durability::none}));
    auto scene = scene_of(model, store, options.links, patience.share_s(2), tool);
    say_if_missing(scene.parts().strategies, tool);
    for (const auto& text : texts) {
      tool.progress("computing and saving " + text.id);
      auto returning = text_of(model, text);
      expect_fits(model, returning.tokens.size() + options.continuation);
      returning = unwrap(scene.save(std::move(returning), options.continuation));
      const auto file = folder.path() / ("case-" + std::to_string(job["cases"].size()));
      unwrap(eval::write_returning(file, returning));
      job["cases"].push_back(file.string());
      if (!tool.json) {
        tool.progress("");
        std::printf(
            "%s: %zu tokens saved and dropped. The user returns: \"%s\"\nwithout any saving the reply begins: %s\n\n",
            escaped(text.id).c_str(), returning.history, escaped(text.next).c_str(),
            escaped(model.tokenizer.decode(returning.reference.tokens), Lines::many).c_str());
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
  const Json& run = found.at("run");
  const RoundsNote note{run.at("disturbed").get<bool>(), run.at("cut_short").get<bool>()};
  std::printf(
      "%s%s\nfirst token: from opening the saved state to the prompt's logits, median of the rounds; disk: dropped "
      "from "
      "the "
      "page cache before;\n"
      "KL and text: %zu greedy tokens against the run without any saving. %s, %s, cache %s.\n%s",
      table_of(found.at("results")).c_str(), note.text().c_str(), options.continuation,
      run.at("kernels").get<std::string>().c_str(), run.at("processor").get<std::string>().c_str(),
      run.at("cache").get<std::string>().c_str(), note_on_costs(run.at("costs_disturbed").get<bool>()).c_str());
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
  add_number(*verb, "--count", options->count, {1, 1000}, "conversations");
  add_number(*verb, "--continuation", options->continuation, {2, 1024}, "greedy tokens that are compared");
  options->patience.add_to(*verb);
  verb->add_option("--restore-job", options->job)->group("");
  verb->callback([options, &tool] { demo(*options, tool); });
}

}  // namespace krul::cli
