#include "texts.hpp"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tool.hpp"

namespace krul::cli {
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

/// What a file holds; where it cannot be used, the message names it.
template <class Text>
std::vector<Text> of_file(const std::string& path, Result<std::vector<Text>> found) {
  if (!found) found.error().message = path + ": " + found.error().message;
  return unwrap(std::move(found));
}

template <class Text>
void append_from(std::vector<Text>& all, std::vector<Text> some, const std::string& path) {
  for (auto& text : some) {
    if (text.source.empty()) text.source = std::filesystem::path(path).stem().string();
    all.push_back(std::move(text));
  }
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

Result<std::vector<eval::TaskText>> parse_tasks(std::string_view json_lines) {
  constexpr std::string_view form = R"({"context": "...", "question": "...", "answer": "..."})";
  auto found = parse_lines<eval::TaskText>(json_lines, "tasks", form,
                                           [](const nlohmann::json& object, std::size_t line) -> eval::TaskText {
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

std::vector<ConversationText> load_conversations(const std::string& path) {
  if (path.empty()) return unwrap(parse_conversations(embedded_conversations()));
  return of_file(path, parse_conversations(unwrap(read_text(path))));
}

std::vector<ConversationText> load_conversations(const std::vector<std::string>& paths) {
  std::vector<ConversationText> all;
  if (paths.empty()) append_from(all, load_conversations(""), "demo");
  for (const auto& path : paths) append_from(all, load_conversations(path), path);
  return all;
}

std::vector<eval::TaskText> load_tasks(const std::vector<std::string>& paths) {
  std::vector<eval::TaskText> all;
  for (const auto& path : paths) append_from(all, of_file(path, parse_tasks(unwrap(read_text(path)))), path);
  return all;
}

}  // namespace krul::cli
