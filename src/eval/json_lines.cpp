#include <algorithm>
#include <nlohmann/json.hpp>

#include "krul/core/file_io.hpp"
#include "krul/eval/conversation_text.hpp"
#include "krul/eval/task_text.hpp"

namespace krul::eval {
namespace {

/// Reads each line that is not blank with `read(object, line)`, which may throw the library's exceptions.
template <class Text, class Read>
Result<std::vector<Text>> parse_lines(std::string_view json_lines, std::string_view what, std::string_view form,
                                      Read&& read) {
  std::vector<Text> found;
  for (std::size_t begin = 0, line = 1; begin < json_lines.size(); ++line) {
    const std::size_t end = std::min(json_lines.find('\n', begin), json_lines.size());
    const std::string_view text = json_lines.substr(begin, end - begin);
    begin = end + 1;
    if (text.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const auto bad = [&](std::string_view why) {
      return fail(ErrorCode::invalid_argument,
                  std::string(what) + ", line " + std::to_string(line) + ": " + std::string(why));
    };
    const auto object = nlohmann::json::parse(text, nullptr, false);
    if (object.is_discarded() || !object.is_object()) return bad("not a JSON object");
    try {
      found.push_back(read(object, line));
    } catch (const nlohmann::json::exception&) {
      return bad("needs " + std::string(form));
    }
  }
  if (found.empty()) return fail(ErrorCode::invalid_argument, "there are no " + std::string(what) + " in the file");
  return found;
}

template <class Text>
Result<std::vector<Text>> read_lines(const std::filesystem::path& file,
                                     Result<std::vector<Text>> (*parse)(std::string_view)) {
  const auto lines = read_text(file);
  if (!lines) return propagate(lines);
  auto found = parse(*lines);
  if (!found) return fail(found.error().code, file.string() + ": " + found.error().message);
  for (Text& text : *found)
    if (text.source.empty()) text.source = file.stem().string();
  return found;
}

}  // namespace

Result<std::vector<ConversationText>> parse_conversations(std::string_view json_lines) {
  constexpr std::string_view form = R"({"id": "...", "messages": [{"role": "...", "content": "..."}]})";
  auto found = parse_lines<ConversationText>(
      json_lines, "conversations", form, [](const nlohmann::json& object, std::size_t line) {
        ConversationText conversation;
        conversation.id = object.value("id", "line-" + std::to_string(line));
        conversation.source = object.value("source", "");
        conversation.next = object.value("next", "");
        for (const auto& message : object.at("messages"))
          conversation.messages.push_back(
              {message.at("role").get<std::string>(), message.at("content").get<std::string>()});
        return conversation;
      });
  if (!found) return found;
  for (const auto& conversation : *found)
    if (conversation.messages.empty())
      return fail(ErrorCode::invalid_argument, "conversation \"" + conversation.id + "\" has no messages");
  return found;
}

Result<std::vector<ConversationText>> read_conversations(const std::filesystem::path& file) {
  return read_lines<ConversationText>(file, parse_conversations);
}

Result<std::vector<TaskText>> parse_tasks(std::string_view json_lines) {
  constexpr std::string_view form = R"({"context": "...", "question": "...", "answer": "..."})";
  auto found =
      parse_lines<TaskText>(json_lines, "tasks", form, [](const nlohmann::json& object, std::size_t line) -> TaskText {
        return {.id = object.value("id", "line-" + std::to_string(line)),
                .source = object.value("source", ""),
                .context = object.at("context").get<std::string>(),
                .question = object.at("question").get<std::string>(),
                .lead = object.value("lead", ""),
                .answer = object.at("answer").get<std::string>()};
      });
  if (!found) return found;
  for (const auto& task : *found)
    if (task.answer.empty()) return fail(ErrorCode::invalid_argument, "task \"" + task.id + "\" has no answer");
  return found;
}

Result<std::vector<TaskText>> read_tasks(const std::filesystem::path& file) {
  return read_lines<TaskText>(file, parse_tasks);
}

}  // namespace krul::eval
