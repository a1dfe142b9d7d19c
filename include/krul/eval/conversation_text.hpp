#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/model/chat_format.hpp"

namespace krul::eval {

/// One conversation of a JSON-lines file:
/// {"id": ..., "source": ..., "messages": [{"role": ..., "content": ...}], "next": ...}
struct ConversationText {
  std::string id;                 ///< "line-7" where it does not say
  std::string source;             ///< the data it comes from; may be empty
  std::vector<Message> messages;  ///< at least one
  std::string next;               ///< what the user says on coming back; may be empty
};

/// @param json_lines  one object a line; blank lines are left out
/// @return invalid_argument, naming the line, if one is no conversation, or if there are none
[[nodiscard]] Result<std::vector<ConversationText>> parse_conversations(std::string_view json_lines);

/// Those of a file, whose name without its ending is the source of those that do not say theirs.
/// @return as read_text and parse_conversations, naming the file
[[nodiscard]] Result<std::vector<ConversationText>> read_conversations(const std::filesystem::path& file);

}  // namespace krul::eval
