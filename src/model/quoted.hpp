#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace krul {

/// Text from a file, fit to be shown: in quotes, no control characters, not endless.
inline std::string quoted(std::string_view text) {
  constexpr std::size_t longest = 80;
  std::string shown = "'";
  for (const char letter : text.substr(0, longest)) shown += letter >= ' ' && letter <= '~' ? letter : '?';
  return shown + (text.size() > longest ? "...'" : "'");
}

}  // namespace krul
