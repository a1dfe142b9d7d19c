#include <algorithm>
#include <cstdio>
#include <ctime>
#include <map>
#include <memory>

#include "conversation_names.hpp"
#include "krul/conversation/give_up_damaged.hpp"
#include "krul/conversation/saved_conversations.hpp"
#include "krul/eval/result_table.hpp"
#include "verbs.hpp"
#include "without_effect.hpp"

namespace krul::cli {
namespace {

struct SavedOptions {
  StoreOptions store;
  std::string id;
  bool repair = false;  ///< verify only
  std::string after;    ///< verify only: folder of the last conversation that was verified before
};

std::string local_time(std::uint64_t unix_s) {
  const auto time = static_cast<std::time_t>(unix_s);
  std::tm parts{};
  localtime_r(&time, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts);
  return text;
}

void list(const SavedOptions& options, const Tool& tool) {
  auto [store, place, evicted] = options.store.open_to_read(tool);
  std::optional<Error> first;
  Json conversations = Json::array();
  eval::ResultTable table({{"conversation", "", eval::ResultTable::Align::left},
                           {"tokens"},
                           {"stored"},
                           {"saves"},
                           {"last saved", "", eval::ResultTable::Align::left}});
  for (const auto& [folder, saved] : unwrap(saved_conversations(store))) {
    if (!saved) {
      if (!first) first = saved.error();
      // Whether what was written is not there any more, and not only out of reach.
      const std::string state = saved.error().code == ErrorCode::corrupt ? "damaged" : "unreadable";
      conversations.push_back({{"folder", folder}, {"state", state}, {"error", saved.error().message}});
      table.add({"(" + state + ") " + folder, "-", "-", "-", escaped(saved.error().message)});
      continue;
    }
    const Manifest& manifest = saved->manifest;
    conversations.push_back(json_of(manifest));
    table.add({escaped_id(manifest.conversation), std::to_string(manifest.tokens.size()),
               human_bytes(static_cast<double>(eval::chunk_bytes(manifest))), std::to_string(manifest.generation),
               local_time(manifest.saved_unix_s)});
  }
  if (tool.json) {
    tool.print({{"conversations", conversations}});
  } else if (conversations.empty()) {
    std::printf("no conversations in %s\n", escaped(place).c_str());
  } else {
    std::printf("%s", table.text().c_str());
  }
  if (first) throw Told{*first};
}

void inspect(const SavedOptions& options, const Tool& tool) {
  auto store = options.store.open_to_read(tool).store;
  const LoadedManifest loaded = unwrap_saved(options.id, load_saved(store, options.id));
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
    Json json = json_of(manifest);
    json["identity"] = json_of(identity);
    json["repaired"] = loaded.repaired;
    json["chunks"] = chunks;
    tool.print(json);
    return;
  }
  std::printf(
      "conversation %s\n  folder     %s\n  tokens     %zu, rows stored %zu in blocks of %u\n  generation %llu, saved "
      "%s by %s\n",
      escaped_id(manifest.conversation).c_str(), unwrap(conversation_folder(options.id)).c_str(),
      manifest.tokens.size(), manifest.rows, manifest.block, static_cast<unsigned long long>(manifest.generation),
      local_time(manifest.saved_unix_s).c_str(), escaped(manifest.writer).c_str());
  std::printf("  model      %s, weights %s\n  geometry   %s\n  computed   %s, %s threads, %s\n",
              escaped(identity.architecture).c_str(), escaped(identity.weights).c_str(),
              escaped(identity.geometry).c_str(), escaped(identity.kernels).c_str(), escaped(identity.threads).c_str(),
              escaped(identity.processor).c_str());
  std::printf("  stored     %s in %zu objects\n", human_bytes(static_cast<double>(eval::chunk_bytes(manifest))).c_str(),
              manifest.objects.size());
  for (const auto& [plan, chunks] : by_plan) std::printf("  chunks     %zu by %s\n", chunks, escaped(plan).c_str());
  if (!loaded.repaired.empty()) std::printf("  note       %s\n", escaped(loaded.repaired).c_str());
}

/// What is told of all that was verified, the worst last. Ends the program if something is not as it should be.
void tell(const VerifySummary& found, const SavedOptions& options, bool unrepaired, const Tool& tool) {
  std::optional<Error> worst;
  const auto tell = [&](bool is_so, ErrorCode code, const std::string& what) {
    if (!is_so) return;
    tool.say("krul: " + what);
    worst = {code, what};
  };
  tell(found.unfinished, ErrorCode::truncated,
       "a save or an erase was cut off; krul gc removes the rest, and so does whoever erases the conversation again or "
       "goes on with it");
  tell(found.unreadable, ErrorCode::io,
       "not everything could be read, which is no damage: verify again once what stands in its way is gone");
  tell(found.damaged, ErrorCode::corrupt,
       unrepaired       ? "damage was found that could not be repaired now"
       : options.repair ? "damage was found; the next turn recomputes what it concerns and saves it again"
                        : "damage was found; the next restore recomputes what it reads of it, and the save after it "
                          "writes that again; with --repair, the next turn replaces all of it");
  tell(
      found.lost, ErrorCode::corrupt,
      "of a conversation no copy of the manifest is what was written, and without its tokens nothing can be "
      "recomputed: give the key that it was encrypted with, if it was; else restore its folder from a backup, or erase "
      "it");
  if (worst) throw Told{*worst};
}

void verify_saved(const SavedOptions& options, const Tool& tool) {
  if (!options.after.empty() && !is_store_folder(options.after))
    throw Failure({ErrorCode::invalid_argument,
                   "--after takes the folder of a conversation, 32 hexadecimal digits, "
                   "as verify --json names it; " +
                       escaped(options.after) + " is none"});
  // Near copies are checked whenever they are read, and would hide what the last place holds.
  auto [store, place, evicted] = options.store.open_last(options.repair ? StoreUse::change : StoreUse::read);
  const auto folders = options.id.empty() ? unwrap(folders_to_verify(store))
                                          : std::vector<std::string>{unwrap(conversation_folder(options.id))};
  Json conversations = Json::array();
  VerifySummary summary;
  bool unrepaired = false;
  for (std::size_t i = 0; i < folders.size(); ++i) {
    const std::string& folder = folders[i];
    if (folder <= options.after) continue;
    tool.progress("verifying " + folder + ", " + std::to_string(i + 1) + " of " + std::to_string(folders.size()));
    const VerifiedFolder found = verify_folder(store, folder);
    if (found.is_nothing()) {
      if (!options.id.empty()) throw nothing_saved(options.id);
      continue;
    }
    summary.add(found);
    const VerifyReport report = found.report.value_or(VerifyReport{});
    const std::string id = options.id.empty() ? report.conversation : options.id;
    const auto named = [&](std::vector<std::string> sentences) {
      for (std::string& sentence : sentences) sentence = with_id(std::move(sentence), folder, id);
      return sentences;
    };
    std::vector<std::string> unread = named(found.unread());
    if (options.repair && found.is_damaged())
      if (const auto given_up = give_up_damaged(store, folder); !given_up) {
        unrepaired = true;
        unread.push_back("not repaired: " + with_id(given_up.error().message, folder, id));
      }
    const Json& row = conversations.emplace_back(Json{{"id", id},
                                                      {"escaped_id", escaped_id(id)},
                                                      {"folder", folder},
                                                      {"state", found.state()},
                                                      {"chunks", report.chunks},
                                                      {"bytes", report.bytes},
                                                      {"problems", named(found.problems())},
                                                      {"unread", unread},
                                                      {"leftovers", found.leftovers}});
    if (tool.json) continue;
    tool.progress("");
    std::printf("%s: %s\n", id.empty() ? ("folder " + folder).c_str() : escaped_id(id).c_str(), found.state().c_str());
    for (const char* sentences : {"problems", "unread"})
      for (const std::string sentence : row.at(sentences)) std::printf("  %s\n", escaped(sentence).c_str());
    for (const auto& name : found.leftovers)
      std::printf("  %s was left behind by a save or an erase that was cut off\n", escaped(name).c_str());
  }
  tool.progress("");
  say_evicted(evicted(), tool);
  if (tool.json) tool.print({{"ok", summary.is_ok()}, {"chunks", summary.chunks}, {"conversations", conversations}});
  tell(summary, options, unrepaired, tool);
}

void erase(const SavedOptions& options, const Tool& tool) {
  auto [store, place, evicted] = options.store.open(StoreUse::change);
  const auto [status, left, is_lent] = unwrap_saved(options.id, erase_saved(store, options.id));
  say_evicted(evicted(), tool);
  const std::string where = place + "/" + unwrap(conversation_folder(options.id));
  for (const std::string& name : left)
    tool.say("krul: " + where + "/" + escaped_id(name) + " is not krul's, and is left");
  if (is_lent) tool.say("(rows that forks of it need are kept until those are erased)");
  unwrap_of(options.id, status);
  if (tool.json)
    tool.print({{"erased", options.id}, {"escaped_id", escaped_id(options.id)}, {"left", left}, {"is_lent", is_lent}});
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
    if (verb.run == verify_saved) {
      added->add_flag("--repair", options->repair, "let the next turn replace what is damaged, whatever it would read");
      added->add_option("--after", options->after, "go on behind this folder, as the progress of another run named it");
    }
    added->callback([options, added, &tool, run = verb.run] {
      if (run == verify_saved && !options->id.empty())
        refuse_without_effect(*added, "--after", "where one conversation is verified");
      run(*options, tool);
    });
  }
}

}  // namespace krul::cli
