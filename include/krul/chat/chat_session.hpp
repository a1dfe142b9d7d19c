#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "krul/conversation/conversation.hpp"
#include "krul/core/error.hpp"
#include "krul/model/chat_turns.hpp"
#include "krul/model/context_room.hpp"
#include "krul/model/model_chat.hpp"
#include "krul/model/reply.hpp"

namespace krul {

/// How a session answers.
struct ChatSettings {
  SamplingOptions sampling = {};
  std::size_t most_tokens = 256;  ///< of a reply, at least 1
  bool leaves_out = false;        ///< where the context is full: go on without the oldest turns
  bool saves = true;              ///< each turn; not where the conversation was opened read only
};

/// Who looks on while a turn is taken. What is empty is not called.
struct ChatWatch {
  std::function<void(const RestoreReport&)> restored = {};  ///< the conversation is there, the reply begins
  std::function<bool(Token)> show = {};                     ///< gets each token; false: it cannot be shown
  std::function<bool()> interrupted = {};                   ///< whether the reply has to end now
};

/// What a model answered in its turn.
struct ChatReply {
  std::string text;
  RestoreReport report = {};  ///< of what the message was run behind
  Ended ended = Ended::stop;
  bool could_go_on = false;             ///< cut for the context, though without its oldest turns it had gone on
  std::size_t left_out = 0;             ///< tokens of the oldest turns
  std::optional<Error> not_saved = {};  ///< what a save failed with: of this turn, or of the one before
};

/// A dialogue with a model in its chat format, kept as a conversation: each message is run behind what is live or
/// saved, the reply to it is sampled, and the turn is saved beside whatever follows. A reply that was interrupted or
/// cut is kept as far as it came; a turn that fails is not kept at all.
template <ModelBackend B, ConversationStore S, Clock C = SteadyClock>
class ChatSession {
 public:
  /// @param model, tokenizer, format  are borrowed
  ChatSession(B& model, Conversation<B, S, C> conversation, const Tokenizer& tokenizer, const ChatFormat& format,
              ChatSettings settings = {})
      : model_(&model),
        conversation_(std::move(conversation)),
        tokenizer_(&tokenizer),
        format_(&format),
        settings_(settings) {}

  [[nodiscard]] Conversation<B, S, C>& conversation() noexcept { return conversation_; }

  /// The next message and the reply to it. Saves the turn in the background, if it saves: finish_save of the
  /// conversation says how that ended.
  /// @return as advance and append of Conversation and ChatFormat::render; too_large says so where it would help to
  ///         leave out the oldest turns. A save that cannot begin fails nothing: see ChatReply::not_saved
  /// @post   on failure the conversation is as it was saved, or as it was live if the message could not be run
  /// @throws PreconditionError as sample_reply and turn_end
  [[nodiscard]] Result<ChatReply> take_turn(std::string_view message, const ChatWatch& watch = {}) {
    ContextRoom room = context_room();
    auto asked = with_message(message);
    if (!asked) return propagate(asked);
    const std::vector<Token> tokens = room.for_message(std::move(*asked));
    std::vector<float> logits(model_->geometry().vocabulary);
    auto report = conversation_.advance(tokens, logits);
    if (!report) {
      if (report.error().code == ErrorCode::too_large && room.would_help(tokens))
        report.error().message += ", or leave out the oldest turns with --on-full shift";
      return propagate(report);
    }
    if (watch.restored) watch.restored(*report);
    const auto reply = sample_reply(settings_.sampling, settings_.most_tokens, logits, steps(watch, logits, room));
    if (!reply) {
      conversation_.drop();  // half a turn is none
      return propagate(reply);
    }
    // What was shown but not run, and the token that ended the turn, are run with the next prompt.
    if (!reply->last_was_run) conversation_.append_pending(reply->tokens.back());
    if (reply->end) conversation_.append_pending(turn_end(*tokenizer_, *format_));
    ChatReply said{tokenizer_->decode(reply->tokens), std::move(*report), reply->ended};
    said.could_go_on = reply->ended == Ended::context && room.would_help(conversation_.tokens());
    said.left_out = room.left_out();
    if (!settings_.saves) return said;
    // The reply was shown: whatever happens now is told beside it.
    try {
      if (const auto saved = conversation_.save_in_background(); !saved) said.not_saved = saved.error();
    } catch (const ResultError& failure) {
      said.not_saved = failure.error;
    }
    return said;
  }

 private:
  /// The tokens of the whole conversation with a new message, up to where the reply begins.
  [[nodiscard]] Result<std::vector<Token>> with_message(std::string_view text) const {
    const auto& live = conversation_.tokens();
    const auto& before = live.empty() ? conversation_.saved_tokens() : live;
    if (!before.empty()) return encode_next_turn(*tokenizer_, *format_, before, text);
    const Message message{"user", std::string(text)};
    const auto rendered = format_->render(std::span(&message, 1), true);
    if (!rendered) return propagate(rendered);
    return encode_conversation(*tokenizer_, *rendered);
  }

  [[nodiscard]] ContextRoom context_room() const {
    const auto users = [this](std::span<const Token> tokens) {
      std::vector<std::size_t> begins;
      for (const TurnPlace& turn : find_turns(tokens, *tokenizer_, *format_))
        if (turn.role == "user") begins.push_back(turn.begin);
      return begins;
    };
    return {{.context = model_->geometry().context, .reply = settings_.most_tokens, .leaves_out = settings_.leaves_out},
            users};
  }

  [[nodiscard]] ReplySteps steps(const ChatWatch& watch, std::span<float> logits, ContextRoom& room) {
    return {.ends = [this](Token token) { return tokenizer_->ends_turn(token); },
            .next = [this, logits, &room](Token token) { return run(token, logits, room); },
            .show = [&watch](Token token) { return !watch.show || watch.show(token); },
            .interrupted = [&watch] { return watch.interrupted && watch.interrupted(); }};
  }

  /// Runs one token of a reply; where the context is full, behind a conversation without its oldest turns.
  [[nodiscard]] Status run(Token token, std::span<float> logits, ContextRoom& room) {
    auto appended = conversation_.append(token, logits);
    if (appended || appended.error().code != ErrorCode::too_large) return appended;
    std::vector<Token> all = conversation_.tokens();
    all.push_back(token);
    const auto shorter = room.for_more(all);
    if (!shorter) return appended;
    const auto again = conversation_.advance(*shorter, logits);
    return again ? Status{} : propagate(again);
  }

  B* model_;
  Conversation<B, S, C> conversation_;
  const Tokenizer* tokenizer_;
  const ChatFormat* format_;
  ChatSettings settings_;
};

}  // namespace krul
