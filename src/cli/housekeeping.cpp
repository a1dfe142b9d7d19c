#include <cstdio>
#include <memory>

#include "conversation_names.hpp"
#include "krul/conversation/copy_saved.hpp"
#include "krul/conversation/fork.hpp"
#include "krul/conversation/garbage.hpp"
#include "number_option.hpp"
#include "verbs.hpp"

namespace krul::cli {
namespace {

struct ForkOptions {
  StoreOptions store;
  std::string from;
  Fork fork;
};

void fork(const ForkOptions& options, const Tool& tool) {
  auto [store, place, evicted] = options.store.open(StoreUse::change);
  if (options.fork.tokens != SIZE_MAX) {
    const std::size_t there = unwrap_saved(options.from, load_saved(store, options.from)).manifest.tokens.size();
    if (options.fork.tokens > there)
      throw Failure({ErrorCode::invalid_argument, "--tokens " + std::to_string(options.fork.tokens) +
                                                      " is more than the " + std::to_string(there) + " that \"" +
                                                      options.from + "\" has"});
  }
  auto forked = fork_saved(store, options.from, options.fork);
  if (!tool.json) say_evicted(evicted(), tool);
  const ForkReport made = unwrap_saved(options.from, std::move(forked));
  if (tool.json) {
    tool.print({{"forked", options.from},
                {"to", options.fork.to},
                {"tokens", made.tokens},
                {"rows", made.rows},
                {"evicted", evicted()}});
    return;
  }
  std::printf("%s begins with %zu tokens of %s; the rows of %zu are stored\n", escaped_id(options.fork.to).c_str(),
              made.tokens, escaped_id(options.from).c_str(), made.rows);
}

struct CopyRequest {
  StoreOptions from, to;
  std::string id;
  CopyOptions how;
};

void copy(const CopyRequest& options, const Tool& tool) {
  const auto source = store_places(options.from.places), target = store_places(options.to.places);
  if (!source.empty() && !target.empty() && is_same_place(source.back(), target.back()))
    throw Failure({ErrorCode::invalid_argument,
                   "what is copied from and what is copied to are one place; name another store to copy to"});
  auto from = options.from.open(StoreUse::read).store;
  auto to = options.to.open(StoreUse::begin).store;
  const auto folders =
      options.id.empty() ? unwrap(from.list("")) : std::vector<std::string>{unwrap(conversation_folder(options.id))};
  ConversationCopier copier(from, to, options.how);
  Json conversations = Json::array();
  std::size_t copied = 0, there = 0, mended = 0;
  std::uint64_t bytes = 0;
  std::optional<Error> failed;
  for (std::size_t i = 0; i < folders.size(); ++i) {
    tool.progress("copying " + std::to_string(i + 1) + " of " + std::to_string(folders.size()));
    const auto report = copier.copy(folders[i]);
    if (!report && report.error().code == ErrorCode::not_found && options.id.empty()) continue;  // lent rows alone
    if (!report) {
      failed = report.error();
      tool.say("krul: " + folders[i] + " is not copied: " + report.error().message);
      conversations.push_back({{"folder", folders[i]}, {"error", report.error().message}});
      continue;
    }
    ++(report->is_newer_there ? there : copied);
    if (report->is_newer_there) mended += report->objects;
    bytes += report->bytes;
    for (const std::string& key : report->gone)
      tool.say("krul: " + key + " is damaged; what is lost of it will be recomputed");
    if (!report->gone.empty() && !failed)
      failed = Error{ErrorCode::corrupt, "not all that should be there is whole; what is damaged will be recomputed"};
    conversations.push_back({{"id", report->conversation},
                             {"folder", folders[i]},
                             {"was_there", report->is_newer_there},
                             {"objects", report->objects},
                             {"bytes", report->bytes},
                             {"damaged", report->gone}});
  }
  tool.progress("");
  if (tool.json)
    tool.print({{"conversations", conversations}});
  else
    std::printf("%zu conversations copied (%s), %zu were there%s\n", copied,
                human_bytes(static_cast<double>(bytes)).c_str(), there,
                mended == 0 ? "" : (", of which " + std::to_string(mended) + " objects were copied again").c_str());
  if (failed) throw Told{*failed};
}

void collect(const StoreOptions& options, const Tool& tool) {
  auto [store, place, evicted] = options.open(StoreUse::change);
  const auto folders = unwrap(folders_to_verify(store));
  Garbage all;
  std::vector<std::string> busy, failed;
  for (std::size_t i = 0; i < folders.size(); ++i) {
    tool.progress("looking at " + std::to_string(i + 1) + " of " + std::to_string(folders.size()));
    const auto garbage = collect_folder(store, folders[i]);
    if (!garbage) {
      (garbage.error().code == ErrorCode::busy ? busy : failed).push_back(folders[i] + ": " + garbage.error().message);
      continue;
    }
    all.segments += garbage->segments;
    all.loans += garbage->loans;
  }
  tool.progress("");
  say_evicted(evicted(), tool);
  for (const std::string& sentence : failed) tool.say("krul: " + sentence);
  if (!busy.empty()) tool.say("(" + std::to_string(busy.size()) + " conversations are in use and were left out)");
  if (tool.json)
    tool.print({{"segments", all.segments}, {"loans", all.loans}, {"in_use", busy.size()}, {"failed", failed}});
  else
    std::printf("%zu objects erased that nobody needed, of %zu folders\n", all.objects(), folders.size());
  if (!failed.empty()) throw Told{{ErrorCode::io, "not everything could be looked at"}};
}

}  // namespace

void add_housekeeping(CLI::App& program, Tool& tool) {
  auto forking = std::make_shared<ForkOptions>();
  auto* verb =
      program.add_subcommand("fork", "begin a conversation as another one began; what they share is kept once");
  forking->store.add_to(*verb);
  verb->add_option("from", forking->from, "id of the conversation that is there")->required();
  verb->add_option("to", forking->fork.to, "id of the new one")->required();
  verb->add_option("--tokens", forking->fork.tokens, "it begins with so many tokens of the other one; without it, all")
      ->check(between<std::size_t>(1, 1 << 30))
      ->default_str("all");
  verb->callback([forking, &tool] { fork(*forking, tool); });

  auto copying = std::make_shared<CopyRequest>();
  verb =
      program.add_subcommand("copy", "copy saved conversations into another store; what is there is not copied again");
  verb->add_option("from", copying->from.places, "store that is copied from, as --store")->required();
  verb->add_option("to", copying->to.places, "store that is copied to")->required();
  copying->from.add_key_to(*verb, "--from-key");
  copying->to.add_key_to(*verb, "--to-key");
  verb->add_option("--conversation", copying->id, "only this one");
  verb->add_flag("--check", copying->how.check, "read what is there, and copy again what of it is damaged");
  verb->add_flag("--replace", copying->how.replace,
                 "replace what is there, also by an older state or another conversation of its id");
  verb->callback([copying, &tool] { copy(*copying, tool); });

  auto collecting = std::make_shared<StoreOptions>();
  verb =
      program.add_subcommand("gc", "erase what saves and erases left that were cut off, and rows that no fork needs");
  collecting->add_to(*verb);
  verb->callback([collecting, &tool] { collect(*collecting, tool); });
}

}  // namespace krul::cli
