#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "krul/eval/conversation_text.hpp"
#include "krul/eval/task_text.hpp"

namespace krul::cli {

using eval::ConversationText;

/// The demo's conversations, which came with the program.
[[nodiscard]] std::string_view embedded_conversations();

/// Beginnings of all kinds of texts, which came with the program too: a model goes on from them where `krul calibrate`
/// is given no conversations. None is among the demo's.
[[nodiscard]] std::string_view embedded_openings();

/// Those of a file, or the program's own if the path is empty. Ends the program if they cannot be used.
[[nodiscard]] std::vector<ConversationText> load_conversations(const std::string& path);

/// Those of several files, one after the other; the program's own if there are none.
[[nodiscard]] std::vector<ConversationText> load_conversations(const std::vector<std::string>& paths);

/// Ends the program if they cannot be used.
[[nodiscard]] std::vector<eval::TaskText> load_tasks(const std::vector<std::string>& paths);

}  // namespace krul::cli
