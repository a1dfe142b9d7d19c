#pragma once

#include <cstddef>
#include <string_view>

namespace krul {

/// Bytes of the white space at the front, or at the back, as Python's str.strip() takes it: one character, or 0.
[[nodiscard]] inline std::size_t white_space_size(std::string_view text, bool front) {
  constexpr std::string_view wide[] = {"\u0085", "\u00a0", "\u1680", "\u2000", "\u2001", "\u2002", "\u2003",
                                       "\u2004", "\u2005", "\u2006", "\u2007", "\u2008", "\u2009", "\u200a",
                                       "\u2028", "\u2029", "\u202f", "\u205f", "\u3000"};
  if (text.empty()) return 0;
  const char c = front ? text.front() : text.back();
  if (c == ' ' || (c >= '\t' && c <= '\r') || (c >= '\x1c' && c <= '\x1f')) return 1;
  for (const auto space : wide)
    if (front ? text.starts_with(space) : text.ends_with(space)) return space.size();
  return 0;
}

/// The text without white space at its ends.
[[nodiscard]] inline std::string_view trimmed(std::string_view text, bool front, bool back) {
  while (const std::size_t size = front ? white_space_size(text, true) : 0) text.remove_prefix(size);
  while (const std::size_t size = back ? white_space_size(text, false) : 0) text.remove_suffix(size);
  return text;
}

}  // namespace krul
