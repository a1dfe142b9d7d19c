#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace krul::chat_template {

/// A word of the template's language.
struct Word {
  enum Kind : std::uint8_t { name, number, text, sign, end } kind = end;
  std::string value;
};
using Words = std::vector<Word>;

/// A part of the template: what it says, and what lies within it.
struct Node {
  enum Kind : std::uint8_t { text, output, set, loop, choice, nothing } kind = text;
  std::string value;                                      // of a text
  Words words;                                            // behind the block's name
  std::vector<std::pair<Words, std::vector<Node>>> arms;  // a loop's body and its else, a choice's branches
};

/// Cuts a template into texts and blocks, and blocks into what they hold.
/// @throws Unknown for blocks and words that krul does not know
[[nodiscard]] std::vector<Node> parse_template(std::string_view source);

}  // namespace krul::chat_template
