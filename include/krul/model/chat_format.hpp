#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "krul/core/error.hpp"
#include "krul/model/gguf.hpp"

namespace krul {

struct Message {
  std::string role;  ///< "system", "user" or "assistant"
  std::string content;
};

/// How a conversation becomes the text that a model was trained on: ChatML, in which each message is
/// "<|im_start|>ROLE\nCONTENT<|im_end|>\n". To be encoded with Tokenizer::Special::parse.
struct ChatFormat {
  /// Whether the model's last token of a reply was <|im_end|>, or the reply was cut short before it.
  enum class Reply : std::uint8_t { ended, cut_short };

  /// Put in front of a conversation that does not begin with a system message; none: nothing is.
  std::optional<std::string> default_system;

  /// The format of a model file: reproduces its chat template's effect on messages (without tools) if the template is
  /// ChatML as SmolLM2's and Qwen2.5's are; else ChatML without a default.
  [[nodiscard]] static ChatFormat from_gguf(const GgufFile& file);

  /// The same from the template's own text.
  [[nodiscard]] static ChatFormat from_template(std::string_view chat_template);

  /// The conversation's text; no messages give no default system message either.
  /// @param add_generation_prompt  ends with "<|im_start|>assistant\n", for a reply to follow
  /// Fails with invalid_argument if a role is not one of system, user, assistant.
  [[nodiscard]] Result<std::string> render(std::span<const Message> messages, bool add_generation_prompt) const;

  /// What follows an assistant's reply when the user goes on: ends with the prompt for the next reply.
  /// @post after the tokens of render(m, true) and a reply that ended, its tokens are those that render() of the whole
  ///       conversation has there
  [[nodiscard]] std::string render_next_turn(std::string_view user_text, Reply reply = Reply::ended) const;

  /// What stands before a turn's content: a model that is given it writes that role's turn.
  [[nodiscard]] std::string render_turn_begin(std::string_view role) const;
};

/// ChatML without a default system message: ChatFormat{}.render().
[[nodiscard]] Result<std::string> render_chat(std::span<const Message> messages, bool add_generation_prompt);

}  // namespace krul
