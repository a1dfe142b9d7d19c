#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <utility>

#include "conversation_names.hpp"
#include "interruption.hpp"
#include "krul/chat/chat_session.hpp"
#include "krul/conversation/saved_conversations.hpp"
#include "krul/core/temporary_folder.hpp"
#include "machine_costs.hpp"
#include "make_profile.hpp"
#include "number_option.hpp"
#include "profile_option.hpp"
#include "reply_options.hpp"
#include "standard_streams.hpp"
#include "text_lines.hpp"
#include "verbs.hpp"

namespace krul::cli {
namespace {

struct ChatOptions {
  ModelOptions model;
  ProfileOption profile;
  StoreOptions store;
  ReplyOptions reply;
  std::string conversation;
  std::string message;
  std::string strategy = "krul";
  bool recompute = false;
  bool no_save = false;
  std::string costs;             ///< "none", or a file; empty: those of this machine
  std::string on_full = "stop";  ///< or "shift"

  [[nodiscard]] AnyStrategy chosen(const std::shared_ptr<const Profile>& profile_of_model = {}) const {
    return unwrap(strategy::named(strategy::catalogue(profile_of_model), strategy));
  }
};

std::string describe(const RestoreReport& report) {
  std::string text = std::to_string(report.matched) + " of " + std::to_string(report.asked) + " tokens reused";
  if (report.bytes > 0) text += ", " + human_bytes(static_cast<double>(report.bytes)) + " read";
  if (report.recomputed_tokens() > 0)
    text += ", up to " + std::to_string(report.recomputed_tokens()) + " tokens recomputed";
  text += "; first token after " + eval::cell(report.total_s() * 1e3, 0) + " ms";
  for (const auto& reason : report.reasons) text += "\n  " + escaped(reason);
  return text;
}

/// What a save that did not come to its end means for a turn: it may be in force all the same.
std::string describe_unsaved(const std::string& turn, const Error& error) {
  const bool in_force = error.message.starts_with("saved, but ");
  return "krul: " + turn + (in_force ? " is " : " is not saved: ") + escaped(error.message);
}

/// What a reader of the reply has to know of it.
void say_of_reply(const ChatReply& reply, const Tool& tool) {
  if (reply.left_out > 0)
    tool.say("(the context is full: " + std::to_string(reply.left_out) + " tokens of the oldest turns were left out)");
  if (reply.ended == Ended::context)
    tool.say(std::string("(the context is full: the reply was cut") +
             (reply.could_go_on ? "; --on-full shift goes on without the oldest turns)" : ")"));
  if (reply.ended == Ended::interrupted)
    tool.say(reply.not_saved ? "(interrupted)" : "(interrupted: what was shown is saved as it is)");
}

/// A session whose turns are shown, and whose errors name the conversation.
struct ShownChat {
  const std::string& id;
  AnyStrategy strategy;
  ChatSession<AnyModel, AnyStore> session;
  const Tool& tool;
  std::function<std::uint64_t()> evicted;  ///< conversations that have been erased to make room
  std::uint64_t told_evicted = 0;

  /// The reply to a message. Ends the program, or the message, if there is none.
  ChatReply take_turn(const std::string& message, ReplyWriter& writer, const Interruption& interruption) {
    const auto restored = [&](const RestoreReport& report) {
      if (!tool.json && (report.bytes > 0 || !report.reasons.empty())) tool.say("(" + describe(named(report)) + ")");
    };
    auto reply = session.take_turn(message, {.restored = restored,
                                             .show = [&](Token token) { return writer.show(token); },
                                             .interrupted = [&] { return interruption.signal() != 0; }});
    if (!reply) throw Failure(named_error(id, std::move(reply.error())));
    writer.end();
    reply->report = named(std::move(reply->report));
    if (reply->not_saved) reply->not_saved = named_error(id, *reply->not_saved);
    return std::move(*reply);
  }

  [[nodiscard]] Result<SaveReport> finish_save() {
    auto saved = session.conversation().finish_save();
    if (!saved) saved.error() = named_error(id, std::move(saved.error()));
    return saved;
  }

  /// Tells what was erased to make room since the last time.
  void say_new_evicted() {
    const std::uint64_t all = evicted();
    say_evicted(all - std::exchange(told_evicted, all), tool);
  }

 private:
  [[nodiscard]] RestoreReport named(RestoreReport report) const {
    for (std::string& reason : report.reasons) reason = named_error(id, {ErrorCode::io, std::move(reason)}).message;
    return report;
  }
};

/// The model's profile, made now if there is none and somebody on a terminal says yes.
std::shared_ptr<const Profile> load_or_offer(const ChatOptions& options, LoadedModel& model, const Tool& tool) {
  auto profile = options.profile.load(model, tool);
  const bool asks =
      options.message.empty() && !tool.json && model.device.empty() && isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
  if (!options.chosen(profile).needs().profile_is_missing || !asks) return profile;
  std::fprintf(stderr,
               "This model has no profile yet; with one, conversations take some five times fewer bytes.\n"
               "Make it now? It takes minutes, once. [y/N] ");
  const auto answer = unwrap(next_line(stdin));
  if (answer != "y" && answer != "Y") return nullptr;
  return make_profile(model, written_texts(model, {}, tool), {}, profile_file(model), tool);
}

/// What restores and saves are planned for, if it is known.
std::optional<Costs> costs_for(const ChatOptions& options, LoadedModel& model, const AnyStrategy& strategy,
                               const MeasuredPlace& place, const Tool& tool) {
  std::optional<MachineCosts> machine;
  if (options.costs.empty()) machine = quick_machine_costs(model, strategy, place, tool);
  if (!options.costs.empty() && options.costs != "none")
    machine = read_machine_costs(options.costs, computes_on(model.backend));
  if (!machine) return std::nullopt;
  return machine->of(strategy, model.backend.geometry().layers);
}

/// Ends the program if a conversation has been held in another chat format than the one that it would go on with.
void refuse_other_format(const ChatOptions& options, const ModelText& model, std::span<const Token> tokens) {
  if (tokens.empty() || has_turns_of(tokens, model.tokenizer, chat_format(model))) return;
  const std::string own = "the model's own chat template";
  const auto file = unwrap(GgufFile::open(options.model.file()));
  const auto held = held_formats(file, unwrap(Tokenizer::from_gguf(file)), tokens);
  std::string families;
  for (const auto family : held.families) families += (families.empty() ? "" : " or ") + std::string(family);
  if (families.empty() && !held.is_of_file)
    throw Failure({ErrorCode::invalid_argument,
                   "\"" + options.conversation + "\" does not begin with a whole message in any chat template that " +
                       "krul knows; if it was forked within one, fork it anew with more --tokens, or begin another "
                       "conversation"});
  std::string message = "\"" + options.conversation + "\" is held in the format of " +
                        (families.empty() ? own : families) + ", not of " +
                        (options.model.chat_template.empty() ? own : options.model.chat_template);
  if (held.is_of_file)
    message += ": leave out --chat-template";
  else if (!families.empty())
    message += ": give --chat-template " + families;
  throw Failure({ErrorCode::invalid_argument, message + ", or begin another conversation"});
}

/// @param saved_cache  element type of the cache that the conversation was saved with
ShownChat open_chat(const ChatOptions& options, LoadedModel& model, OpenedStore& place,
                    std::optional<ElementType> saved_cache, const Tool& tool) {
  static_cast<void>(chat_format(model));  // what cannot be rendered is refused before anything is measured
  const auto profile = load_or_offer(options, model, tool);
  ConversationOptions how{.strategy = options.chosen(profile), .codings = CodingSet(profile)};
  how.recompute = options.recompute;
  how.read_only = options.no_save;
  how.texts_hash = [&tokenizer = model.tokenizer](std::span<const Token> tokens) {
    return tokenizer.texts_hash(tokens);
  };
  how.threads = model.backend.workers().threads();
  auto opened = open_conversation(model.backend, place.store, options.conversation, how);
  if (!opened && opened.error().code == ErrorCode::identity_mismatch && saved_cache &&
      saved_cache != model.backend.geometry().cache_type)
    opened.error().message += "; --cache " + std::string(name(*saved_cache)) + " is what it was saved with";
  auto conversation = unwrap_of(options.conversation, std::move(opened));
  refuse_other_format(options, model, conversation.saved_tokens());
  // Measuring writes.
  const MeasuredPlace measured = options.no_save ? MeasuredPlace{cache_folder()} : options.store.measured(place);
  if (const auto costs = costs_for(options, model, how.strategy, measured, tool)) conversation.plan_for(*costs);
  const ChatSettings settings{
      .sampling = options.reply.sampling,
      .most_tokens = options.reply.max_tokens,
      .leaves_out = options.on_full == "shift",
      .saves = !options.no_save,
  };
  return {options.conversation,
          how.strategy,
          {model.backend, std::move(conversation), model.tokenizer, chat_format(model), settings},
          tool,
          place.evicted};
}

/// One message and its reply, with --json as an object. Ends the program if the turn is not saved.
void answer(const ChatOptions& options, const LoadedModel& model, ShownChat& chat) {
  const Tool& tool = chat.tool;
  const Interruption interruption;
  ReplyWriter writer(model.tokenizer, tool);
  auto reply = chat.take_turn(options.message, writer, interruption);
  const auto saved = chat.finish_save();
  if (!saved) reply.not_saved = saved.error();
  if (!tool.json) say_of_reply(reply, tool);
  if (!tool.json) chat.say_new_evicted();
  say_if_missing(std::span(&chat.strategy, 1), tool);
  if (reply.not_saved) tool.say(describe_unsaved("this turn", *reply.not_saved));
  if (tool.json) {
    Json object = {{"reply", reply.text}, {"ended", name(reply.ended)}, {"left_out_tokens", reply.left_out}};
    object["report"] = json_of(reply.report);
    object["saved"] = reply.not_saved || options.no_save ? Json() : json_of(*saved);
    object["tokens"] = chat.session.conversation().tokens().size();
    object["evicted"] = chat.evicted();
    object["run"] = describe_run(model);
    tool.print(std::move(object));
  }
  if (reply.not_saved) throw Told{*reply.not_saved, interruption.signal() != 0 ? 128 + interruption.signal() : 1};
  if (interruption.signal() != 0) throw Told::interrupted(interruption.signal());
}

/// Lines of standard input and their replies. What goes wrong with one of them is told, and the next one may follow.
/// A line without text is no message: on a terminal it ends the chat, in a pipe or a file it separates messages.
class Dialogue {
 public:
  Dialogue(const LoadedModel& model, ShownChat& chat) : model_(model), chat_(chat) {}

  /// Ends the program if something was not read, not answered, or in the end not saved.
  void run() {
    auto line = next_message();
    for (; line && *line; line = next_message()) answer(**line);
    if (const auto saved = chat_.finish_save(); !saved) {
      failed_ = saved.error();
      chat_.tool.say("krul: not all turns are saved: " + escaped(failed_->message));
    }
    chat_.say_new_evicted();
    if (interruption_.signal() != 0) throw Told::interrupted(interruption_.signal());
    if (!line) throw Failure(line.error());
    if (failed_) throw Told{*failed_};
  }

 private:
  Result<std::optional<std::string>> next_message() const {
    while (interruption_.signal() == 0 && flush_standard_output()) {
      if (terminal_) {
        std::printf("> ");
        std::fflush(stdout);
        interruption_.wait_for(STDIN_FILENO);
        if (interruption_.signal() != 0) break;
      }
      auto line = next_line(stdin);
      if (interruption_.signal() != 0) break;
      if (!line || !*line || !(*line)->empty()) return line;
      if (terminal_) break;
    }
    return std::nullopt;
  }

  void answer(const std::string& line) {
    // By now the user has read the last reply: its save has ended, or is waited for by the next one.
    if (!chat_.session.conversation().saving())
      if (const auto saved = chat_.finish_save(); !saved) say_not_saved(saved.error());
    ReplyWriter writer(model_.tokenizer, chat_.tool);
    try {
      auto reply = chat_.take_turn(line, writer, interruption_);
      if (reply.ended == Ended::interrupted && !reply.not_saved)
        if (const auto saved = chat_.finish_save(); !saved) reply.not_saved = saved.error();
      say_of_reply(reply, chat_.tool);
      if (reply.not_saved) say_not_saved(*reply.not_saved);
      chat_.say_new_evicted();
    } catch (const Failure& failure) {
      failed_ = failure.error;
      writer.end();
      // A device that has failed does not come back within a process.
      if (!model_.device.empty() && failure.error.code == ErrorCode::backend) throw;
      chat_.tool.say("krul: " + escaped(failure.what()));
    }
    if (terminal_ && interruption_.signal() == SIGINT) {
      // A second Ctrl-C would end this wait; none can lose what the first one left.
      static_cast<void>(chat_.finish_save());
      interruption_.rearm();
    }
  }

  void say_not_saved(const Error& error) const {
    // Whoever else has the conversation now keeps it.
    const char* const next = error.code == ErrorCode::busy ? "" : " (the next save tries again)";
    chat_.tool.say(describe_unsaved("the last turn", error) + next);
  }

  const LoadedModel& model_;
  ShownChat& chat_;
  Interruption interruption_;
  bool terminal_ = isatty(STDIN_FILENO) != 0;
  std::optional<Error> failed_;  ///< what was told of the last message that was not answered
};

void chat(const ChatOptions& options, const Tool& tool) {
  const auto strategy = options.chosen();
  unwrap(for_any_turn(strategy.needs(), strategy.name()));
  if (tool.json && options.message.empty())
    throw Failure({ErrorCode::invalid_argument, "chat --json needs --message TEXT"});
  OpenedStore place = options.no_save ? options.store.open_to_read(tool) : options.store.open(StoreUse::begin);
  if (!options.no_save) TemporaryFolder::sweep(options.store.folder());
  unwrap(conversation_folder(options.conversation));
  const auto before = load_saved(place.store, options.conversation);
  const auto saved_cache = before ? saved_cache_type(before->manifest) : std::nullopt;
  ModelOptions with_cache = options.model;
  if (with_cache.cache == "auto" && saved_cache) with_cache.cache = name(*saved_cache);
  auto model = with_cache.load(tool);
  auto chat = open_chat(options, model, place, saved_cache, tool);
  if (!options.message.empty()) return answer(options, model, chat);
  say_if_missing(std::span(&chat.strategy, 1), tool);
  if (const auto& tokens = chat.session.conversation().saved_tokens(); !tokens.empty())
    tool.say("(conversation \"" + escaped_id(options.conversation) + "\" goes on after " +
             std::to_string(tokens.size()) + " tokens)");
  if (isatty(STDIN_FILENO))
    tool.say(std::string("(an empty line or end of input ends the chat; ") +
             (options.no_save ? "no turn is saved)" : "every turn is saved)"));
  Dialogue(model, chat).run();
}

}  // namespace

void add_chat(CLI::App& program, Tool& tool) {
  auto options = std::make_shared<ChatOptions>();
  auto* verb = program.add_subcommand("chat", "hold a conversation; each turn is saved, and a later start goes on");
  options->model.add_to(*verb);
  options->model.add_context_to(*verb);
  options->profile.add_to(*verb);
  options->store.add_to(*verb);
  options->reply.add_to(*verb);
  verb->add_option("--conversation", options->conversation, "name of the conversation, any text")->required();
  verb->add_option("--message", options->message,
                   "one message; without it, each line of standard input that is not empty is one");
  verb->add_option("--strategy", options->strategy, "how it is stored and restored")->capture_default_str();
  verb->add_flag("--recompute", options->recompute,
                 "go on with a conversation that other weights saved: its tokens are run through this model");
  verb->add_flag("--no-save", options->no_save,
                 "save nothing: the store is only read, and the conversation stays as it was");
  verb->add_option("--costs", options->costs,
                   "what restores are planned with: none, or a file of krul calibrate --machine; without it, this "
                   "machine is measured once");
  add_choice(*verb, "--on-full", options->on_full, {"stop", "shift"},
             "when the context is full: stop, or shift: go on without the oldest turns");
  verb->callback([options, &tool] { chat(*options, tool); });
}

}  // namespace krul::cli
