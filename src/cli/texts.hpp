#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/eval/task_text.hpp"
#include "krul/model/chat_format.hpp"

namespace krul::cli {

/// One conversation of a JSON-lines file:
/// {"id": ..., "source": ..., "messages": [{"role": ..., "content": ...}], "next": ...}
struct ConversationText {
  std::string id;
  std::string source;  ///< the data it comes from; the name of its file where it does not say
  std::vector<Message> messages;
  std::string next;  ///< what the user says on coming back; may be empty
};

/// The demo's conversations, which came with the program.
[[nodiscard]] std::string_view embedded_conversations();

/// Beginnings of all kinds of texts, which came with the program too: a model goes on from them where `krul calibrate`
/// is given no conversations. None is among the demo's.
[[nodiscard]] std::string_view embedded_openings();

/// @return invalid_argument that names the line, if one is no conversation
[[nodiscard]] Result<std::vector<ConversationText>> parse_conversations(std::string_view json_lines);

/// {"id", "source", "context", "question", "answer", "lead"}
/// @return invalid_argument that names the line, if one is no task
[[nodiscard]] Result<std::vector<eval::TaskText>> parse_tasks(std::string_view json_lines);

/// Those of a file, or the program's own if the path is empty. Ends the program if they cannot be used.
[[nodiscard]] std::vector<ConversationText> load_conversations(const std::string& path);

/// Those of several files, one after the other; the program's own if there are none.
[[nodiscard]] std::vector<ConversationText> load_conversations(const std::vector<std::string>& paths);

/// Ends the program if they cannot be used.
[[nodiscard]] std::vector<eval::TaskText> load_tasks(const std::vector<std::string>& paths);

}  // namespace krul::cli
