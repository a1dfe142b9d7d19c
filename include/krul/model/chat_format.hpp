#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/model/rendered_text.hpp"

namespace krul {

struct Message {
  std::string role;  ///< "system", "user" or "assistant"
  std::string content;
};

/// What a template writes around the messages of one role, and whether it drops white space at their ends.
struct ChatTurn {
  std::string before = {}, after = {};
  bool trim_front = false, trim_back = false;

  friend bool operator==(const ChatTurn&, const ChatTurn&) = default;
};

/// How a conversation becomes the text that a model was trained on, as data.
struct ChatFormat {
  /// Where a system message may stand.
  enum class SystemPlace : std::uint8_t {
    nowhere,
    first,       ///< a turn of its own before all others
    anywhere,    ///< a turn of its own
    first_user,  ///< the conversation's first message, within the user's turn that follows
    last_user,   ///< the same, within the last user's turn; not shown where the assistant spoke last
  };
  /// Whether a reply ended with the template's own token, or has to be ended.
  enum class Reply : std::uint8_t { ended, cut_short };

  std::string begin = {};         ///< before the first turn; a default system message is a part of it
  std::string system_begin = {};  ///< the same where a system message comes first
  ChatTurn system = {}, user = {}, assistant = {};
  std::string generation_prompt = {};  ///< what a reply follows
  SystemPlace system_place = SystemPlace::nowhere;
  bool any_order = false;           ///< roles need not alternate
  bool system_keeps_front = false;  ///< a user's text that a system message stands before keeps white space in front
  bool drops_thoughts = false;      ///< of a reply in the history only what stands behind its last "</think>" is shown
  std::string turn_end = {};        ///< name of the token that ends a reply: the first one of assistant.after

  friend bool operator==(const ChatFormat&, const ChatFormat&) = default;

  /// The format of a family, by its name; chat_families() lists them.
  /// @param bos, eos  names of the model's tokens
  /// Fails with invalid_argument if there is none of that name.
  [[nodiscard]] static Result<ChatFormat> named(std::string_view family, std::string_view bos, std::string_view eos);

  /// The format that a template (Jinja) has by what it makes of conversations that it is tried on.
  /// Fails with unsupported, and what krul does not know in it, or with what it looks at in what messages say.
  /// @post render() is what the template makes of messages without tools that are not empty
  [[nodiscard]] static Result<ChatFormat> from_template(std::string_view source, std::string_view bos,
                                                        std::string_view eos);

  /// The conversation's text, up to where its next turn begins.
  /// @param add_generation_prompt  ends with what a reply follows
  /// Fails with invalid_argument if a role is not one of system, user, assistant, or the format has none there.
  [[nodiscard]] Result<RenderedText> render(std::span<const Message> messages, bool add_generation_prompt) const;

  /// What follows an assistant's reply when the user goes on: ends with the prompt for the next reply.
  /// @post after render(m, true), a reply and the turn's end where it `ended`, this is what render() of the whole
  ///       conversation has there, but for white space that the template drops from replies
  [[nodiscard]] RenderedText render_next_turn(std::string_view user_text, Reply reply = Reply::ended) const;

  /// A user's turn behind a conversation that render(m, false) made, and the prompt for the reply.
  [[nodiscard]] RenderedText render_user_turn(std::string_view text) const;
};

/// Names of the families of formats that are known.
[[nodiscard]] std::vector<std::string_view> chat_families();

}  // namespace krul
