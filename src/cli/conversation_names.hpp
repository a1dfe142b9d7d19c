#pragma once

#include <string>
#include <utility>

#include "escaped.hpp"
#include "krul/store/conversation_key.hpp"
#include "tool.hpp"

namespace krul::cli {

/// A message of a store with the conversation's id where it names its folder, which says nothing to people.
[[nodiscard]] inline std::string with_id(std::string message, const std::string& folder, const std::string& id) {
  if (id.empty()) return message;
  const std::string name = "of \"" + escaped_id(id) + "\"";
  for (auto at = message.find(folder); at != std::string::npos; at = message.find(folder, at + name.size()))
    message.replace(at, folder.size(), name);
  return message;
}

/// The value, or the end of the program with a message that names the conversation.
template <class T>
T unwrap_of(const std::string& id, Result<T> result) {
  if (!result) result.error().message = with_id(result.error().message, unwrap(conversation_folder(id)), id);
  return unwrap(std::move(result));
}

}  // namespace krul::cli
