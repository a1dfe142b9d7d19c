#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "krul/core/checksum.hpp"
#include "krul/core/error.hpp"

namespace krul {

/// Longest conversation id and longest namespace.
inline constexpr std::size_t longest_conversation_id = 4096;  // bytes

/// The folder of a conversation: the hexadecimal XXH3-128 of namespace and id. An id is data and never a path: every
/// non-empty string of bytes up to longest_conversation_id is one, "..", "/", NUL and broken UTF-8 included.
/// The same id in another namespace (a tenant, say) is another conversation. Two ids can share a folder only by a
/// collision of the hash, so whoever reads a manifest compares its `conversation` with the id that was asked for.
/// @return invalid_argument for an empty id, too_large for a longer one
[[nodiscard]] inline Result<std::string> conversation_folder(std::string_view id, std::string_view name_space = {}) {
  if (id.empty()) return fail(ErrorCode::invalid_argument, "a conversation id must not be empty; choose any text");
  if (id.size() > longest_conversation_id || name_space.size() > longest_conversation_id)
    return fail(ErrorCode::too_large, "conversation ids and namespaces have at most 4,096 bytes; choose a shorter one");
  // The namespace's length comes first, so that no two pairs give the same bytes.
  std::string text;
  text += static_cast<char>(name_space.size() & 0xff);
  text += static_cast<char>(name_space.size() >> 8);
  text += name_space;
  text += id;
  return hexadecimal(checksum(std::as_bytes(std::span(text))));
}

}  // namespace krul
