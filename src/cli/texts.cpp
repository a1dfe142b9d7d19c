#include "texts.hpp"

#include <nlohmann/json.hpp>

#include "tool.hpp"

namespace krul::cli {

Result<std::vector<ConversationText>> parse_conversations(std::string_view json_lines) {
  std::vector<ConversationText> conversations;
  for (std::size_t begin = 0, line = 1; begin < json_lines.size(); ++line) {
    const std::size_t end = std::min(json_lines.find('\n', begin), json_lines.size());
    const std::string_view text = json_lines.substr(begin, end - begin);
    begin = end + 1;
    if (text.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const auto bad = [&](const std::string& why) {
      return fail(ErrorCode::invalid_argument, "conversations, line " + std::to_string(line) + ": " + why);
    };
    const auto object = nlohmann::json::parse(text, nullptr, false);
    if (object.is_discarded() || !object.is_object()) return bad("not a JSON object");
    ConversationText conversation;
    try {
      conversation.id = object.value("id", "line-" + std::to_string(line));
      conversation.next = object.value("next", "");
      for (const auto& message : object.at("messages"))
        conversation.messages.push_back(
            {message.at("role").get<std::string>(), message.at("content").get<std::string>()});
    } catch (const nlohmann::json::exception&) {
      return bad(R"(needs {"id": "...", "messages": [{"role": "...", "content": "..."}]})");
    }
    if (conversation.messages.empty()) return bad("has no messages");
    conversations.push_back(std::move(conversation));
  }
  if (conversations.empty()) return fail(ErrorCode::invalid_argument, "there are no conversations in the file");
  return conversations;
}

std::vector<ConversationText> load_conversations(const std::string& path) {
  return unwrap(parse_conversations(path.empty() ? std::string(embedded_conversations()) : unwrap(read_text(path))));
}

}  // namespace krul::cli
