#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <memory>

#include "exact_history.hpp"
#include "krul/model/model_chat.hpp"
#include "krul/select/measured_step.hpp"
#include "krul/similarity/tokenwise_similarity_estimator.hpp"
#include "make_profile.hpp"
#include "profile_option.hpp"
#include "talk.hpp"
#include "verbs.hpp"

namespace krul::cli {
namespace {

using Talk = Conversation<CpuModel, FileStore, AnyPolicy>;

struct ChatOptions {
  ModelOptions model;
  ProfileOption profile;
  StoreOptions store;
  ReplyOptions reply;
  std::string conversation;
  std::string message;
  std::string strategy = "krul";
  bool recompute = false;
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
  for (const auto& reason : report.reasons) text += "\n  " + reason;
  return text;
}

struct TurnResult {
  std::string reply;
  RestoreReport report;
};

/// A talk, and what its strategy has to know to save it.
struct Chat {
  Talk talk;
  Strategy strategy;
  Costs costs;                                          ///< of the restore that saves are planned for
  std::shared_ptr<const Profile> profile;               ///< of the model; may be none
  std::optional<TokenwiseSimilarityEstimator<>> watch;  ///< if the strategy looks at attention
  std::optional<StepScale> step;                        ///< once it was measured: a save may still be under way

  Result<RestoreReport> advance(std::span<const Token> tokens, std::span<float> logits) {
    return watch ? talk.advance(tokens, logits, *watch) : talk.advance(tokens, logits);
  }
  /// False if the context is full; ends the program if the model fails.
  bool append(Token token, std::span<float> logits) {
    const Status ran = watch ? talk.append(token, logits, *watch) : talk.append(token, logits);
    if (!ran && ran.error().code != ErrorCode::too_large) throw Failure(ran.error());
    return ran.has_value();
  }
  /// Saves while the user reads the reply and thinks.
  Status save(CpuModel& model) {
    const AttentionStatistics statistics = watch ? watch->statistics() : AttentionStatistics{};
    const auto plan =
        plan_of(model, talk.cache(), statistics, talk.cache().length(),
                {strategy, costs, {}, profile, std::span(talk.tokens()).first(talk.cache().length()), step});
    step = step_in_setting(plan.settings);
    return talk.save_in_background(plan, watch ? &statistics : nullptr);
  }
};

TurnResult take_turn(LoadedModel& model, Chat& chat, const ChatOptions& options, const std::string& text,
                     const Tool& tool) {
  Talk& talk = chat.talk;
  const auto& before = talk.tokens().empty() ? talk.saved_tokens() : talk.tokens();
  const auto tokens = with_message(model, before, text);
  std::vector<float> logits(model.backend.geometry().vocabulary);
  TurnResult turn;
  turn.report = unwrap(chat.advance(tokens, logits));
  if (!tool.json && (turn.report.bytes > 0 || !turn.report.reasons.empty()))
    tool.say("(" + describe(turn.report) + ")");
  const Reply reply = sample_reply(
      model, options.reply, logits, [&](Token token) { return chat.append(token, logits); },
      show_on_terminal(model, tool));
  // The last token of a reply was shown but not run: it is run with the next prompt.
  if (reply.end) {
    talk.append_pending(turn_end(model.tokenizer, chat_format(model)));
  } else if (!reply.tokens.empty() && talk.tokens().size() < tokens.size() + reply.tokens.size()) {
    talk.append_pending(reply.tokens.back());
  }
  unwrap(chat.save(model.backend));
  turn.reply = model.tokenizer.decode(reply.tokens);
  if (!tool.json) std::printf("\n");
  return turn;
}

/// The model's profile, made now if there is none and somebody on a terminal says yes.
std::shared_ptr<const Profile> load_or_offer(const ChatOptions& options, const Strategy& strategy, LoadedModel& model,
                                             const Tool& tool) {
  auto profile = options.profile.load(model, tool);
  const bool asks = options.message.empty() && !tool.json && isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
  if (profile || !strategy.step || !asks) return profile;
  std::fprintf(stderr,
               "This model has no profile yet; with one, conversations take some five times fewer bytes.\n"
               "Make it now? It takes minutes, once. [y/N] ");
  std::string answer;
  if (!std::getline(std::cin, answer) || (answer != "y" && answer != "Y")) return nullptr;
  return make_profile(model, written_texts(model, {}, tool), {}, profile_file(model), tool);
}

void chat(const ChatOptions& options, const Tool& tool) {
  const auto strategy = unwrap(strategy_named(options.strategy));
  if (strategy.stored_as != StoredAs::keys_and_values)
    throw Failure(
        {ErrorCode::unsupported, "strategy " + options.strategy + " keeps nothing that a talk could go on with"});
  auto store = options.store.open();
  auto model = options.model.load(tool);
  static_cast<void>(chat_format(model));  // what cannot be rendered is refused before anything is measured
  const auto profile = load_or_offer(options, strategy, model, tool);
  ConversationOptions conversation;
  conversation.profile = profile;
  conversation.codec = unwrap(row_codec_from_name(strategy.codec));
  conversation.strategy = std::string(strategy.name);
  conversation.recompute = options.recompute;
  conversation.threads = model.backend.workers().threads();
  Chat chat{unwrap(Talk::open(model.backend, store, options.conversation, conversation, strategy.policy)),
            strategy,
            {},
            profile,
            {},
            {}};
  chat.step = remembered_step(chat.talk.manifest().plans, strategy.step.value_or(StepScale{}));
  const auto costs = machine_costs(model, tool, profile);
  chat.costs = costs.costs({"disk", LinkName::Kind::disk}, strategy, model.backend.geometry());
  chat.talk.plan_for(chat.costs);
  if (strategy.observes_attention()) chat.watch.emplace(model.backend.geometry());

  if (!options.message.empty()) {
    const auto turn = take_turn(model, chat, options, options.message, tool);
    const auto saved = unwrap(chat.talk.finish_save());
    say_if_missing(profile, std::span(&strategy, 1), tool);
    if (tool.json)
      tool.print({{"reply", turn.reply},
                  {"report", to_json(turn.report)},
                  {"saved",
                   {{"generation", saved.generation},
                    {"rows", saved.rows},
                    {"new_rows", saved.new_rows},
                    {"bytes", saved.bytes}}},
                  {"tokens", chat.talk.tokens().size()},
                  {"run", describe_run(model)}});
    return;
  }
  if (tool.json) throw Failure({ErrorCode::invalid_argument, "chat --json needs --message TEXT"});
  say_if_missing(profile, std::span(&strategy, 1), tool);
  if (!chat.talk.saved_tokens().empty())
    tool.say("(conversation \"" + options.conversation + "\" goes on after " +
             std::to_string(chat.talk.saved_tokens().size()) + " tokens)");
  const bool terminal = isatty(STDIN_FILENO);
  if (terminal) tool.say("(an empty line or end of input ends the chat; every turn is saved)");
  for (std::string line;
       (terminal ? (std::printf("> "), std::fflush(stdout)) : 0), std::getline(std::cin, line) && !line.empty();)
    take_turn(model, chat, options, line, tool);
  unwrap(chat.talk.finish_save());
}

}  // namespace

void add_chat(CLI::App& program, Tool& tool) {
  auto options = std::make_shared<ChatOptions>();
  auto* verb = program.add_subcommand("chat", "talk; each turn is saved, and a later start goes on");
  options->model.add_to(*verb);
  options->model.add_context_to(*verb);
  options->profile.add_to(*verb);
  options->store.add_to(*verb);
  options->reply.add_to(*verb);
  verb->add_option("--conversation", options->conversation, "name of the conversation, any text")->required();
  verb->add_option("--message", options->message, "one message; without it, lines are read from standard input");
  verb->add_option("--strategy", options->strategy, "how it is stored and restored")->capture_default_str();
  verb->add_flag("--recompute", options->recompute,
                 "go on with a conversation that other weights saved: its tokens are run through this model");
  verb->callback([options, &tool] { chat(*options, tool); });
}

}  // namespace krul::cli
