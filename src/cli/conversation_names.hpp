#pragma once

#include <string>

namespace krul::cli {

/// A message of a store with the conversation's id where it names its folder, which says nothing to people.
[[nodiscard]] inline std::string with_id(std::string message, const std::string& folder, const std::string& id) {
  if (id.empty()) return message;
  const std::string name = "of \"" + id + "\"";
  for (auto at = message.find(folder); at != std::string::npos; at = message.find(folder, at + name.size()))
    message.replace(at, folder.size(), name);
  return message;
}

}  // namespace krul::cli
