#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "krul/core/error.hpp"

namespace krul::eval {

/// One question on a text, with the answer that is right.
struct TaskText {
  std::string id, source;
  std::string context;
  std::string question;
  std::string lead;    ///< how the answer begins, given to the model with the question; may be empty
  std::string answer;  ///< what comes after the lead at once
};

/// @param json_lines  {"id", "source", "context", "question", "answer", "lead"} a line; blank lines are left out
/// @return invalid_argument, naming the line, if one is no task, or if there are none
[[nodiscard]] Result<std::vector<TaskText>> parse_tasks(std::string_view json_lines);

/// Those of a file, whose name without its ending is the source of those that do not say theirs.
/// @return as read_text and parse_tasks, naming the file
[[nodiscard]] Result<std::vector<TaskText>> read_tasks(const std::filesystem::path& file);

}  // namespace krul::eval
