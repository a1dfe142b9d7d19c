#include "krul/core/escaped.hpp"

#include <algorithm>
#include <cstdio>

namespace krul {
namespace {

/// Bytes of the UTF-8 character that a text begins with; 0 if it begins with none.
constexpr std::size_t character_bytes(std::string_view text) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = at(0);
  if (first < 0x80) return 1;
  const std::size_t bytes = first >= 0xf0 && first < 0xf5 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first >= 0xf5 || text.size() < bytes) return 0;
  for (std::size_t i = 1; i < bytes; ++i)
    if ((at(i) & 0xc0) != 0x80) return 0;
  if ((first == 0xe0 && at(1) < 0xa0) || (first == 0xed && at(1) >= 0xa0)) return 0;
  if ((first == 0xf0 && at(1) < 0x90) || (first == 0xf4 && at(1) >= 0x90)) return 0;
  return bytes;
}

constexpr std::uint32_t code_point(std::string_view character) {
  const auto first = static_cast<unsigned char>(character[0]);
  if (character.size() == 1) return first;
  std::uint32_t code = first & (0x7fU >> character.size());
  for (const char next : character.substr(1)) code = code << 6 | (static_cast<unsigned char>(next) & 0x3fU);
  return code;
}

/// What moves the cursor, changes the terminal, or turns the order of what stands around it.
constexpr bool commands_terminal(std::uint32_t code) {
  return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x200e || code == 0x200f ||
         (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

struct Range {
  std::uint32_t first, last;
};

/// What takes no room, or looks like a space: Unicode's default ignorable code points and its separators.
constexpr bool looks_like_nothing(std::uint32_t code) {
  constexpr Range ranges[] = {
      {0xa0, 0xa0},       {0xad, 0xad},       {0x34f, 0x34f},    {0x61c, 0x61c},   {0x115f, 0x1160}, {0x1680, 0x1680},
      {0x17b4, 0x17b5},   {0x180b, 0x180f},   {0x2000, 0x200f},  {0x2028, 0x202f}, {0x205f, 0x206f}, {0x2800, 0x2800},
      {0x3000, 0x3000},   {0x3164, 0x3164},   {0xfe00, 0xfe0f},  {0xfeff, 0xfeff}, {0xffa0, 0xffa0}, {0xfff0, 0xfff8},
      {0x1bca0, 0x1bca3}, {0x1d173, 0x1d17a}, {0xe0000, 0xe0fff}};
  return std::ranges::any_of(ranges, [&](const Range& range) { return range.first <= code && code <= range.last; });
}

}  // namespace

std::string escaped(std::string_view text, Lines lines) {
  std::string shown;
  const auto add = [&](const char* format, std::uint32_t code) {
    char written[16];
    std::snprintf(written, sizeof written, format, code);
    shown += written;
  };
  while (!text.empty()) {
    const std::size_t bytes = character_bytes(text);
    const std::string_view character = text.substr(0, std::max<std::size_t>(bytes, 1));
    text.remove_prefix(character.size());
    const std::uint32_t code = bytes == 0 ? static_cast<unsigned char>(character[0]) : code_point(character);
    if (bytes > 0 && (!commands_terminal(code) || (lines == Lines::many && (code == '\n' || code == '\t')))) {
      shown += character;
    } else if (code == '\n') {
      shown += "\\n";
    } else if (code == '\t') {
      shown += "\\t";
    } else {
      add(code < 0x100 ? "\\x%02x" : "\\u%04x", code);
    }
  }
  return shown;
}

std::string escaped_id(std::string_view id) {
  std::string shown;
  while (!id.empty()) {
    const std::size_t bytes = character_bytes(id);
    const std::string_view character = id.substr(0, std::max<std::size_t>(bytes, 1));
    id.remove_prefix(character.size());
    const std::uint32_t code = bytes == 0 ? 0 : code_point(character);
    if (character == "\\") {
      shown += "\\\\";
    } else if (character == " " && (shown.empty() || id.empty())) {
      shown += "\\x20";
    } else if (bytes > 1 && (commands_terminal(code) || looks_like_nothing(code))) {
      char written[16];
      std::snprintf(written, sizeof written, "\\u%04x", code);
      shown += written;
    } else {
      shown += escaped(character);
    }
  }
  return shown;
}

std::size_t whole_characters(std::string_view text) {
  for (std::size_t back = 1; back <= std::min<std::size_t>(3, text.size()); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if (byte < 0x80) break;
    if (byte < 0xc0) continue;  // goes on with a character
    const std::size_t wanted = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
    return wanted > back ? text.size() - back : text.size();
  }
  return text.size();
}

}  // namespace krul
