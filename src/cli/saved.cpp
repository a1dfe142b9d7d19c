#include <cstdio>
#include <ctime>
#include <map>
#include <memory>

#include "krul/conversation/verify.hpp"
#include "krul/eval/result_table.hpp"
#include "verbs.hpp"

namespace krul::cli {
namespace {

struct SavedOptions {
  StoreOptions store;
  std::string id;
};

std::uint64_t stored_bytes(const Manifest& manifest) {
  std::uint64_t bytes = 0;
  for (const auto& chunk : manifest.chunks) bytes += chunk.bytes;
  return bytes;
}

std::string local_time(std::uint64_t unix_s) {
  const auto time = static_cast<std::time_t>(unix_s);
  std::tm parts{};
  localtime_r(&time, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts);
  return text;
}

std::string folder_of(const std::string& id) {
  return unwrap(conversation_folder(id));
}

Json summary(const Manifest& manifest) {
  return {{"id", manifest.conversation},
          {"tokens", manifest.tokens.size()},
          {"rows", manifest.rows},
          {"bytes", stored_bytes(manifest)},
          {"generation", manifest.generation},
          {"saved_unix_s", manifest.saved_unix_s},
          {"layers", manifest.layers},
          {"block", manifest.block}};
}

void list(const SavedOptions& options, const Tool& tool) {
  auto store = options.store.open();
  Json conversations = Json::array();
  eval::ResultTable table({{"conversation", "", eval::ResultTable::Align::left},
                           {"tokens"},
                           {"stored"},
                           {"saves"},
                           {"last saved", "", eval::ResultTable::Align::left}});
  for (const auto& folder : unwrap(store.list(""))) {
    const auto loaded = load_manifest(store, folder, ManifestCopies::first_valid);
    if (!loaded) {
      if (loaded.error().code != ErrorCode::not_found) {
        conversations.push_back({{"folder", folder}, {"error", loaded.error().message}});
        table.add({"(damaged) " + folder, "-", "-", "-", loaded.error().message});
      }
      continue;
    }
    const Manifest& manifest = loaded->manifest;
    conversations.push_back(summary(manifest));
    table.add({manifest.conversation, std::to_string(manifest.tokens.size()),
               human_bytes(static_cast<double>(stored_bytes(manifest))), std::to_string(manifest.generation),
               local_time(manifest.saved_unix_s)});
  }
  if (tool.json) {
    tool.print({{"conversations", conversations}});
  } else if (conversations.empty()) {
    std::printf("no conversations in %s\n", store.path().c_str());
  } else {
    std::printf("%s", table.text().c_str());
  }
}

void inspect(const SavedOptions& options, const Tool& tool) {
  auto store = options.store.open();
  const auto loaded = unwrap(load_manifest(store, folder_of(options.id)));
  const Manifest& manifest = loaded.manifest;
  const Identity& identity = manifest.identity;
  std::map<std::string, std::size_t> by_plan;
  for (const auto& chunk : manifest.chunks)
    if (chunk.is_stored())
      ++by_plan[manifest.plans.at(chunk.plan).strategy + " (" + manifest.plans.at(chunk.plan).codec + ")"];
  if (tool.json) {
    Json chunks = Json::array();
    for (std::size_t layer = 0; layer < manifest.layers; ++layer)
      for (std::size_t block = 0; block < manifest.blocks(); ++block) {
        const auto& chunk = manifest.chunk(layer, block);
        chunks.push_back({{"layer", layer},
                          {"block", block},
                          {"object", chunk.is_stored() ? manifest.objects[chunk.object] : ""},
                          {"offset", chunk.offset},
                          {"bytes", chunk.bytes},
                          {"hash", hexadecimal(chunk.hash)},
                          {"codec", chunk.is_stored() ? manifest.plans.at(chunk.plan).codec : ""}});
      }
    Json json = summary(manifest);
    json["identity"] = {{"architecture", identity.architecture}, {"weights", identity.weights},
                        {"tokenizer", identity.tokenizer},       {"geometry", identity.geometry},
                        {"profile", identity.profile},           {"kernels", identity.kernels},
                        {"processor", identity.processor},       {"threads", identity.threads}};
    json["repaired"] = loaded.repaired;
    json["chunks"] = chunks;
    tool.print(json);
    return;
  }
  std::printf(
      "conversation %s\n  folder     %s\n  tokens     %zu, rows stored %zu in blocks of %u\n  generation %llu, saved "
      "%s by %s\n",
      manifest.conversation.c_str(), folder_of(options.id).c_str(), manifest.tokens.size(), manifest.rows,
      manifest.block, static_cast<unsigned long long>(manifest.generation), local_time(manifest.saved_unix_s).c_str(),
      manifest.writer.c_str());
  std::printf("  model      %s, weights %s\n  geometry   %s\n  computed   %s, %s threads, %s\n",
              identity.architecture.c_str(), identity.weights.c_str(), identity.geometry.c_str(),
              identity.kernels.c_str(), identity.threads.c_str(), identity.processor.c_str());
  std::printf("  stored     %s in %zu objects\n", human_bytes(static_cast<double>(stored_bytes(manifest))).c_str(),
              manifest.objects.size());
  for (const auto& [plan, chunks] : by_plan) std::printf("  chunks     %zu by %s\n", chunks, plan.c_str());
  if (!loaded.repaired.empty()) std::printf("  note       %s\n", loaded.repaired.c_str());
}

void verify_saved(const SavedOptions& options, const Tool& tool) {
  auto store = options.store.open();
  const auto folders = options.id.empty() ? unwrap(store.list("")) : std::vector<std::string>{folder_of(options.id)};
  Json conversations = Json::array();
  std::size_t chunks = 0;
  bool ok = true;
  for (const auto& folder : folders) {
    tool.progress("verifying " + folder);
    const auto report = verify_conversation(store, folder);
    if (!report && report.error().code == ErrorCode::not_found && options.id.empty()) continue;
    const auto problems = report ? report->problems : std::vector<std::string>{report.error().message};
    ok = ok && problems.empty();
    if (report) chunks += report->chunks;
    conversations.push_back({{"folder", folder},
                             {"chunks", report ? report->chunks : 0},
                             {"bytes", report ? report->bytes : 0},
                             {"problems", problems}});
    if (tool.json) continue;
    tool.progress("");
    std::printf("%s: %s\n", folder.c_str(), problems.empty() ? "ok" : "damaged");
    for (const auto& problem : problems) std::printf("  %s\n", problem.c_str());
  }
  tool.progress("");
  if (tool.json) tool.print({{"ok", ok}, {"chunks", chunks}, {"conversations", conversations}});
  if (!ok) {
    tool.say("krul: damage was found; the next restore recomputes what it concerns");
    throw CLI::RuntimeError(1);
  }
}

void erase(const SavedOptions& options, const Tool& tool) {
  auto store = options.store.open();
  const auto folder = folder_of(options.id);
  const auto lock = unwrap(store.lock(folder));
  unwrap(load_manifest(store, folder, ManifestCopies::first_valid)
             .map([](const auto&) {})
             .or_else([](const Error& error) -> Status {
               if (error.code == ErrorCode::not_found) return tl::unexpected<Error>(error);
               return {};  // a damaged conversation can be erased
             }));
  unwrap(erase_conversation(store, folder));
  if (tool.json) tool.print({{"erased", options.id}});
}

}  // namespace

void add_saved(CLI::App& program, Tool& tool) {
  struct Verb {
    const char* name;
    const char* meaning;
    void (*run)(const SavedOptions&, const Tool&);
    enum { none, optional, required } id;
  };
  for (const Verb& verb : {Verb{"list", "what is saved", list, Verb::none},
                           Verb{"inspect", "how one conversation is saved", inspect, Verb::required},
                           Verb{"verify", "read and check every byte", verify_saved, Verb::optional},
                           Verb{"erase", "forget a conversation", erase, Verb::required}}) {
    auto options = std::make_shared<SavedOptions>();
    auto* added = program.add_subcommand(verb.name, verb.meaning);
    options->store.add_to(*added);
    if (verb.id != Verb::none) {
      auto* id = added->add_option("conversation", options->id, "the conversation's id");
      if (verb.id == Verb::required) id->required();
    }
    added->callback([options, &tool, run = verb.run] { run(*options, tool); });
  }
}

}  // namespace krul::cli
