#include "texts.hpp"

#include "tool.hpp"

namespace krul::cli {

std::vector<ConversationText> load_conversations(const std::string& path) {
  if (!path.empty()) return unwrap(eval::read_conversations(path));
  auto own = unwrap(eval::parse_conversations(embedded_conversations()));
  for (auto& text : own)
    if (text.source.empty()) text.source = "demo";
  return own;
}

std::vector<ConversationText> load_conversations(const std::vector<std::string>& paths) {
  if (paths.empty()) return load_conversations("");
  std::vector<ConversationText> all;
  for (const auto& path : paths)
    for (auto& text : load_conversations(path)) all.push_back(std::move(text));
  return all;
}

std::vector<eval::TaskText> load_tasks(const std::vector<std::string>& paths) {
  std::vector<eval::TaskText> all;
  for (const auto& path : paths)
    for (auto& text : unwrap(eval::read_tasks(path))) all.push_back(std::move(text));
  return all;
}

}  // namespace krul::cli
