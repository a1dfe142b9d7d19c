#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/model/chat_format.hpp"

namespace krul::cli {

/// One conversation of a JSON-lines file: {"id": ..., "messages": [{"role": ..., "content": ...}], "next": ...}
struct ConversationText {
  std::string id;
  std::vector<Message> messages;
  std::string next;  ///< what the user says on coming back; may be empty
};

/// The file's lines that came with the program.
[[nodiscard]] std::string_view embedded_conversations();

/// @return invalid_argument that names the line, if one is no conversation
[[nodiscard]] Result<std::vector<ConversationText>> parse_conversations(std::string_view json_lines);

/// Those of a file, or the program's own if the path is empty. Ends the program if they cannot be used.
[[nodiscard]] std::vector<ConversationText> load_conversations(const std::string& path);

}  // namespace krul::cli
