#pragma once

#include <string>
#include <utility>

#include "krul/conversation/named_error.hpp"
#include "tool.hpp"

namespace krul::cli {

/// The value, or the end of the program with a message that names the conversation.
template <class T>
T unwrap_of(const std::string& id, Result<T> result) {
  if (!result) result.error() = named_error(id, std::move(result.error()));
  return unwrap(std::move(result));
}

/// What verbs say of an id that is not there.
[[nodiscard]] inline Failure nothing_saved(const std::string& id) {
  return Failure({ErrorCode::not_found, "nothing is saved under \"" + escaped_id(id) + "\"; krul list shows what is"});
}

/// The same for what is read of a saved conversation.
template <class T>
T unwrap_saved(const std::string& id, Result<T> result) {
  if (!result && result.error().code == ErrorCode::not_found) throw nothing_saved(id);
  return unwrap_of(id, std::move(result));
}

}  // namespace krul::cli
