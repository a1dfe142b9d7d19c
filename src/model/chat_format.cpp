#include "krul/model/chat_format.hpp"

namespace krul {

namespace {

constexpr std::string_view turn_begin = "<|im_start|>";
constexpr std::string_view turn_end = "<|im_end|>";
constexpr std::string_view generation_prompt = "<|im_start|>assistant\n";

void append_turn(std::string& text, std::string_view role, std::string_view content) {
  text.append(turn_begin).append(role).append("\n").append(content).append(turn_end).append("\n");
}

/// What a template's source means by `literal`, the inside of one of its quoted strings; nothing if it is not a whole
/// plain string, or has escapes other than that of a line end.
std::optional<std::string> unescape(std::string_view literal) {
  std::string text;
  for (std::size_t i = 0; i < literal.size(); ++i) {
    if (literal[i] == '\'' || literal[i] == '"') return std::nullopt;
    if (literal[i] != '\\') {
      text += literal[i];
    } else if (literal.substr(i, 2) == "\\n") {
      text += '\n';
      ++i;
    } else {
      return std::nullopt;
    }
  }
  return text;
}

}  // namespace

ChatFormat ChatFormat::from_gguf(const GgufFile& file) {
  const auto chat_template = file.string_value("tokenizer.chat_template");
  return chat_template ? from_template(*chat_template) : ChatFormat{};
}

ChatFormat ChatFormat::from_template(std::string_view chat_template) {
  // A default is a complete system turn within one string, in a template that asks for the first message's role.
  if (chat_template.find("messages[0]['role']") == std::string_view::npos) return {};
  constexpr std::string_view opening = "<|im_start|>system";
  for (std::size_t at = chat_template.find(opening); at != std::string_view::npos;
       at = chat_template.find(opening, at + 1)) {
    const std::size_t begin = at + opening.size();
    const std::size_t end = chat_template.find(turn_end, begin);
    if (end == std::string_view::npos) break;
    const auto text = unescape(chat_template.substr(begin, end - begin));
    if (text && text->starts_with('\n')) return {text->substr(1)};
  }
  return {};
}

Result<std::string> ChatFormat::render(std::span<const Message> messages, bool add_generation_prompt) const {
  std::string text;
  if (default_system && !messages.empty() && messages.front().role != "system")
    append_turn(text, "system", *default_system);
  for (const auto& message : messages) {
    if (message.role != "system" && message.role != "user" && message.role != "assistant")
      return fail(ErrorCode::invalid_argument,
                  "role \"" + message.role.substr(0, 64) + "\" of a message is unknown: use system, user or assistant");
    append_turn(text, message.role, message.content);
  }
  if (add_generation_prompt) text += generation_prompt;
  return text;
}

std::string ChatFormat::render_next_turn(std::string_view user_text, Reply reply) const {
  std::string text(reply == Reply::ended ? "" : turn_end);
  text += '\n';
  append_turn(text, "user", user_text);
  text += generation_prompt;
  return text;
}

std::string ChatFormat::render_turn_begin(std::string_view role) const {
  return std::string(turn_begin).append(role).append("\n");
}

Result<std::string> render_chat(std::span<const Message> messages, bool add_generation_prompt) {
  return ChatFormat{}.render(messages, add_generation_prompt);
}

}  // namespace krul
