#include <unistd.h>

#include <cstdio>
#include <memory>

#include "conversation_names.hpp"
#include "escaped.hpp"
#include "interruption.hpp"
#include "krul/cpu_conversation.hpp"
#include "krul/model/context_room.hpp"
#include "krul/model/gguf.hpp"
#include "krul/model/model_chat.hpp"
#include "krul/store/any_store.hpp"
#include "krul/store/temporary_folder.hpp"
#include "krul/strategy/catalogue.hpp"
#include "machine_costs.hpp"
#include "make_profile.hpp"
#include "profile_option.hpp"
#include "reply_options.hpp"
#include "standard_streams.hpp"
#include "text_lines.hpp"
#include "verbs.hpp"

namespace krul::cli {
namespace {

using CpuConversation = Conversation<CpuModel, AnyStore>;

struct ChatOptions {
  ModelOptions model;
  ProfileOption profile;
  StoreOptions store;
  ReplyOptions reply;
  std::string conversation;
  std::string message;
  std::string strategy = "krul";
  bool recompute = false;
  std::string costs;             ///< "none", or a file; empty: those of this machine
  std::string on_full = "stop";  ///< or "shift"
};

/// The tokens of the whole conversation with the user's new message, up to where the reply begins.
std::vector<Token> with_message(const LoadedModel& model, const std::vector<Token>& before, const std::string& text) {
  if (before.empty()) {
    const Message message{"user", text};
    return encode_messages(model, std::span(&message, 1), true);
  }
  return encode_next_turn(model.tokenizer, chat_format(model), before, text);
}

std::string describe(const RestoreReport& report) {
  std::string text = std::to_string(report.matched) + " of " + std::to_string(report.asked) + " tokens reused";
  if (report.bytes > 0) text += ", " + human_bytes(static_cast<double>(report.bytes)) + " read";
  if (!report.plan.prefix.empty() && report.plan.prefix.front() > 0)
    text += ", up to " + std::to_string(report.plan.prefix.front()) + " tokens recomputed";
  char times[96];
  std::snprintf(times, sizeof times, "; first token after %.0f ms", report.total_s() * 1e3);
  text += times;
  for (const auto& reason : report.reasons) text += "\n  " + escaped(reason);
  return text;
}

/// A conversation, and how it is saved.
struct Chat {
  CpuConversation conversation;
  AnyStrategy strategy;
};

/// What a save that did not come to its end means for a turn: it may be in force all the same.
std::string describe_unsaved(const std::string& turn, const Error& error) {
  const bool in_force = error.message.starts_with("saved, but ");
  return "krul: " + turn + (in_force ? " is " : " is not saved: ") + escaped(error.message);
}

/// An error as people may read it: a conversation has a name, its folder is nobody's business.
Error told(Error error, const Chat& chat) {
  error.message =
      with_id(std::move(error.message), chat.conversation.folder(), chat.conversation.manifest().conversation);
  return error;
}

/// What of a conversation fits the model's context.
ContextRoom room_for(const LoadedModel& model, const ChatOptions& options) {
  const auto users = [&model](std::span<const Token> tokens) {
    std::vector<std::size_t> begins;
    for (const TurnPlace& turn : find_turns(tokens, model.tokenizer, chat_format(model)))
      if (turn.role == "user") begins.push_back(turn.begin);
    return begins;
  };
  return {{.context = model.backend.geometry().context,
           .reply = options.reply.max_tokens,
           .leaves_out = options.on_full == "shift"},
          users};
}

struct TurnResult {
  std::string reply;
  RestoreReport report;
  Ended ended = Ended::stop;
  bool could_shift = false;        ///< cut for the context, though without its oldest turns it could have gone on
  std::size_t left_out = 0;        ///< tokens of the oldest turns
  std::optional<Error> not_saved;  ///< what a save failed with: of this turn, or of the one before
};

/// What a reader of the reply has to know of it.
void say_of_reply(const TurnResult& turn, const Tool& tool) {
  if (turn.left_out > 0)
    tool.say("(the context is full: " + std::to_string(turn.left_out) + " tokens of the oldest turns were left out)");
  if (turn.ended == Ended::context)
    tool.say(std::string("(the context is full: the reply was cut") +
             (turn.could_shift ? "; --on-full shift goes on without the oldest turns)" : ")"));
  if (turn.ended == Ended::interrupted)
    tool.say(turn.not_saved ? "(interrupted)" : "(interrupted: what was shown is saved as it is)");
}

/// The reply to a prompt that was run; its tokens are part of the conversation afterwards.
Result<Reply> reply_to(const LoadedModel& model, Chat& chat, const ReplyOptions& options, std::span<float> logits,
                       const ReplySteps& shown, ContextRoom& room) {
  ReplySteps steps = shown;
  steps.next = [&](Token token) -> Status {
    auto run = chat.conversation.append(token, logits);
    if (run || run.error().code != ErrorCode::too_large) return run;
    std::vector<Token> all = chat.conversation.tokens();
    all.push_back(token);
    const auto shorter = room.for_more(all);
    if (!shorter) return run;
    const auto again = chat.conversation.advance(*shorter, logits);
    if (!again) return propagate(again);
    return {};
  };
  auto reply = sample_reply(options.sampling, options.max_tokens, logits, steps);
  if (!reply) return reply;
  // What was shown but not run, and the token that ended the turn, are run with the next prompt.
  if (!reply->last_was_run) chat.conversation.append_pending(reply->tokens.back());
  if (reply->end) chat.conversation.append_pending(turn_end(model.tokenizer, chat_format(model)));
  return reply;
}

TurnResult take_turn(LoadedModel& model, Chat& chat, const ChatOptions& options, const std::string& text,
                     const ReplySteps& shown, const Tool& tool) {
  CpuConversation& conversation = chat.conversation;
  const auto& before = conversation.tokens().empty() ? conversation.saved_tokens() : conversation.tokens();
  ContextRoom room = room_for(model, options);
  const auto tokens = room.for_message(with_message(model, before, text));
  std::vector<float> logits(model.backend.geometry().vocabulary);
  auto report = conversation.advance(tokens, logits);
  if (!report) {
    if (report.error().code == ErrorCode::too_large && room.would_help(tokens))
      report.error().message += ", or leave out the oldest turns with --on-full shift";
    throw Failure(told(report.error(), chat));
  }
  TurnResult turn;
  turn.report = std::move(*report);
  for (std::string& reason : turn.report.reasons) reason = told({ErrorCode::io, std::move(reason)}, chat).message;
  if (!tool.json && (turn.report.bytes > 0 || !turn.report.reasons.empty()))
    tool.say("(" + describe(turn.report) + ")");
  auto reply = reply_to(model, chat, options.reply, logits, shown, room);
  if (!reply) {
    conversation.drop();  // half a turn is none
    throw Failure(told(reply.error(), chat));
  }
  turn.reply = model.tokenizer.decode(reply->tokens);
  turn.ended = reply->ended;
  turn.could_shift = reply->ended == Ended::context && room.would_help(conversation.tokens());
  turn.left_out = room.left_out();
  // The reply was shown: whatever happens now is told beside it.
  try {
    if (const auto saved = conversation.save_in_background(); !saved) turn.not_saved = told(saved.error(), chat);
  } catch (const Failure& failure) {
    turn.not_saved = told(failure.error, chat);
  }
  return turn;
}

/// The model's profile, made now if there is none and somebody on a terminal says yes.
std::shared_ptr<const Profile> load_or_offer(const ChatOptions& options, LoadedModel& model, const Tool& tool) {
  auto profile = options.profile.load(model, tool);
  const bool asks = options.message.empty() && !tool.json && isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
  const auto strategy = unwrap(strategy::named(strategy::catalogue(profile), options.strategy));
  if (!strategy.needs().profile_is_missing || !asks) return profile;
  std::fprintf(stderr,
               "This model has no profile yet; with one, conversations take some five times fewer bytes.\n"
               "Make it now? It takes minutes, once. [y/N] ");
  const auto answer = unwrap(next_line(stdin));
  if (answer != "y" && answer != "Y") return nullptr;
  return make_profile(model, written_texts(model, {}, tool), {}, profile_file(model), tool);
}

/// What restores and saves are planned for, if it is known.
std::optional<Costs> costs_for(const ChatOptions& options, LoadedModel& model, const AnyStrategy& strategy,
                               const Tool& tool) {
  std::optional<MachineCosts> machine;
  if (options.costs.empty()) machine = quick_machine_costs(model, strategy, options.store.folder(), tool);
  if (!options.costs.empty() && options.costs != "none") machine = read_machine_costs(options.costs);
  if (!machine) return std::nullopt;
  return machine->of(strategy, model.backend.geometry().layers);
}

/// The element type of the cache that a conversation was saved with; empty if nothing is saved.
std::string saved_cache_type(AnyStore& store, const std::string& id) {
  const std::string folder = unwrap(conversation_folder(id));
  const auto loaded = load_manifest(store, folder, ManifestCopies::both, ManifestOfFolder{folder});
  constexpr std::string_view field = " cache=";
  const std::string geometry = loaded ? loaded->manifest.identity.geometry : "";
  const auto at = geometry.rfind(field);
  return at == std::string::npos ? "" : geometry.substr(at + field.size());
}

/// The model, with the cache that the conversation was saved with unless another one is asked for.
LoadedModel load_for(const ChatOptions& options, const std::string& saved_cache, const Tool& tool) {
  ModelOptions model = options.model;
  if (model.cache == "auto" && element_type_from(saved_cache)) model.cache = saved_cache;
  return model.load(tool);
}

/// What chat formats that krul knows a conversation is held in, as people may ask for them.
struct HeldFormats {
  std::string families;      ///< joined by " or "; may be empty
  bool is_of_model = false;  ///< the model file's own chat template is one of them
};

HeldFormats formats_of(const std::filesystem::path& model, std::span<const Token> tokens) {
  const auto file = unwrap(GgufFile::open(model));
  auto tokenizer = unwrap(Tokenizer::from_gguf(file));
  const auto is_held_in = [&](std::string_view family) {
    const auto format = chat_format_of(file, tokenizer, family);
    return format && has_turns_of(tokens, tokenizer, *format);
  };
  HeldFormats held{{}, is_held_in("")};
  for (const auto family : chat_families())
    if (is_held_in(family)) held.families += (held.families.empty() ? "" : " or ") + std::string(family);
  return held;
}

/// Ends the program if a conversation has been held in another chat format than the one that it would go on with.
void refuse_other_format(const ChatOptions& options, const LoadedModel& model, std::span<const Token> tokens) {
  if (tokens.empty() || has_turns_of(tokens, model.tokenizer, chat_format(model))) return;
  const std::string own = "the model's own chat template";
  const auto held = formats_of(options.model.file(), tokens);
  std::string message = "\"" + options.conversation + "\" is held in the format of " +
                        (!held.families.empty() ? held.families
                         : held.is_of_model     ? own
                                                : "no chat template that krul knows") +
                        ", not of " + (options.model.chat_template.empty() ? own : options.model.chat_template);
  if (held.is_of_model)
    message += ": leave out --chat-template";
  else if (!held.families.empty())
    message += ": give --chat-template " + held.families;
  throw Failure({ErrorCode::invalid_argument, message + ", or begin another conversation"});
}

Chat open_chat(const ChatOptions& options, LoadedModel& model, AnyStore& store, const std::string& saved_cache,
               const Tool& tool) {
  static_cast<void>(chat_format(model));  // what cannot be rendered is refused before anything is measured
  const auto profile = load_or_offer(options, model, tool);
  const auto strategy = unwrap(strategy::named(strategy::catalogue(profile), options.strategy));
  ConversationOptions how{.strategy = strategy, .codings = CodingSet(profile)};
  how.recompute = options.recompute;
  how.texts_hash = [&tokenizer = model.tokenizer](std::span<const Token> tokens) {
    return tokenizer.texts_hash(tokens);
  };
  how.threads = model.backend.workers().threads();
  auto opened = CpuConversation::open(model.backend, store, options.conversation, how);
  if (!opened && opened.error().code == ErrorCode::identity_mismatch && !saved_cache.empty() &&
      saved_cache != name(model.backend.geometry().cache_type))
    opened.error().message += "; --cache " + saved_cache + " is what it was saved with";
  if (!opened)
    opened.error().message =
        with_id(opened.error().message, unwrap(conversation_folder(options.conversation)), options.conversation);
  Chat chat{unwrap(std::move(opened)), strategy};
  refuse_other_format(options, model, chat.conversation.saved_tokens());
  if (const auto costs = costs_for(options, model, strategy, tool)) chat.conversation.plan_for(*costs);
  return chat;
}

/// One message and its reply, with --json as an object. Ends the program if the turn is not saved.
void answer(const ChatOptions& options, LoadedModel& model, Chat& chat, const Tool& tool) {
  const Interruption interruption;
  ReplyWriter writer(model.tokenizer, tool);
  auto turn =
      take_turn(model, chat, options, options.message, shown_steps(model.tokenizer, writer, interruption), tool);
  writer.end();
  const auto saved = chat.conversation.finish_save();
  if (!saved) turn.not_saved = told(saved.error(), chat);
  if (!tool.json) say_of_reply(turn, tool);
  say_if_missing(std::span(&chat.strategy, 1), tool);
  if (turn.not_saved) tool.say(describe_unsaved("this turn", *turn.not_saved));
  if (tool.json) {
    Json object = {{"reply", turn.reply}, {"ended", name(turn.ended)}, {"left_out_tokens", turn.left_out}};
    object["report"] = to_json(turn.report);
    object["saved"] = nullptr;
    if (!turn.not_saved)
      object["saved"] = {{"generation", saved->generation},
                         {"rows", saved->rows},
                         {"new_rows", saved->new_rows},
                         {"bytes", saved->bytes}};
    object["tokens"] = chat.conversation.tokens().size();
    object["run"] = describe_run(model);
    tool.print(std::move(object));
  }
  if (turn.not_saved) throw Told{*turn.not_saved, interruption.signal() != 0 ? 128 + interruption.signal() : 1};
  if (interruption.signal() != 0) throw Told::interrupted(interruption.signal());
}

/// Lines of standard input and their replies. What goes wrong with one of them is told, and the next one may follow.
/// A line without text is no message: on a terminal it ends the chat, in a pipe or a file it separates messages.
class Dialogue {
 public:
  Dialogue(const ChatOptions& options, LoadedModel& model, Chat& chat, const Tool& tool)
      : options_(options), model_(model), chat_(chat), tool_(tool) {}

  /// Ends the program if something was not read, not answered, or in the end not saved.
  void run() {
    auto line = next_message();
    for (; line && *line; line = next_message()) answer(**line);
    if (const auto saved = chat_.conversation.finish_save(); !saved) {
      failed_ = told(saved.error(), chat_);
      tool_.say("krul: not all turns are saved: " + escaped(failed_->message));
    }
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
    if (!chat_.conversation.saving())
      if (const auto saved = chat_.conversation.finish_save(); !saved) say_not_saved(told(saved.error(), chat_));
    ReplyWriter writer(model_.tokenizer, tool_);
    try {
      auto turn = take_turn(model_, chat_, options_, line, shown_steps(model_.tokenizer, writer, interruption_), tool_);
      writer.end();
      if (turn.ended == Ended::interrupted && !turn.not_saved)
        if (const auto saved = chat_.conversation.finish_save(); !saved) turn.not_saved = told(saved.error(), chat_);
      say_of_reply(turn, tool_);
      if (turn.not_saved) say_not_saved(*turn.not_saved);
    } catch (const Failure& failure) {
      failed_ = failure.error;
      writer.end();
      tool_.say("krul: " + escaped(failure.what()));
    }
    if (terminal_ && interruption_.signal() == SIGINT) {
      // A second Ctrl-C would end this wait; none can lose what the first one left.
      static_cast<void>(chat_.conversation.finish_save());
      interruption_.rearm();
    }
  }

  void say_not_saved(const Error& error) const {
    tool_.say(describe_unsaved("the last turn", error) + " (the next save tries again)");
  }

  const ChatOptions& options_;
  LoadedModel& model_;
  Chat& chat_;
  const Tool& tool_;
  Interruption interruption_;
  bool terminal_ = isatty(STDIN_FILENO) != 0;
  std::optional<Error> failed_;  ///< what was told of the last message that was not answered
};

void chat(const ChatOptions& options, const Tool& tool) {
  const auto strategy = unwrap(strategy::named(strategy::catalogue(), options.strategy));
  unwrap(for_any_turn(strategy.needs(), strategy.name()));
  if (tool.json && options.message.empty())
    throw Failure({ErrorCode::invalid_argument, "chat --json needs --message TEXT"});
  AnyStore store = options.store.open();
  TemporaryFolder::sweep(options.store.folder());
  const auto saved_cache = saved_cache_type(store, options.conversation);
  auto model = load_for(options, saved_cache, tool);
  auto chat = open_chat(options, model, store, saved_cache, tool);
  if (!options.message.empty()) return answer(options, model, chat, tool);
  say_if_missing(std::span(&chat.strategy, 1), tool);
  if (!chat.conversation.saved_tokens().empty())
    tool.say("(conversation \"" + escaped_id(options.conversation) + "\" goes on after " +
             std::to_string(chat.conversation.saved_tokens().size()) + " tokens)");
  if (isatty(STDIN_FILENO)) tool.say("(an empty line or end of input ends the chat; every turn is saved)");
  Dialogue(options, model, chat, tool).run();
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
  verb->add_option("--costs", options->costs,
                   "what restores are planned with: none, or a file of krul calibrate --machine; without it, this "
                   "machine is measured once");
  verb->add_option("--on-full", options->on_full,
                   "when the context is full: stop, or shift: go on without the oldest turns")
      ->check(CLI::IsMember({"stop", "shift"}))
      ->capture_default_str();
  verb->callback([options, &tool] { chat(*options, tool); });
}

}  // namespace krul::cli
