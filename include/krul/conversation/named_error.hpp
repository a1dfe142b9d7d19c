#pragma once

#include <cstddef>
#include <string>
#include <utility>

#include "krul/core/error.hpp"
#include "krul/core/escaped.hpp"
#include "krul/store/conversation_key.hpp"

namespace krul {

/// A message of a store with the conversation's id, escaped, where it names its folder, which says nothing to people.
/// Within a path or a server's key the folder stays, so that people can use it.
/// @param id  empty: the message stays as it is
[[nodiscard]] inline std::string with_id(std::string message, const std::string& folder, const std::string& id) {
  if (id.empty()) return message;
  const std::string name = "of \"" + escaped_id(id) + "\"";
  std::size_t after = 0;
  for (auto at = message.find(folder); at != std::string::npos; at = message.find(folder, after)) {
    const bool is_within_a_name = at > 0 && (message[at - 1] == '/' || message[at - 1] == '{');
    if (!is_within_a_name) message.replace(at, folder.size(), name);
    after = at + (is_within_a_name ? folder : name).size();
  }
  return message;
}

/// An error of what is done with a conversation, as people may read it.
[[nodiscard]] inline Error named_error(const std::string& id, Error error) {
  if (const auto folder = conversation_folder(id)) error.message = with_id(std::move(error.message), *folder, id);
  return error;
}

}  // namespace krul
