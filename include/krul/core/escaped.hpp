#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "krul/core/error.hpp"

namespace krul {

/// Whether a text may have several lines.
enum class Lines : std::uint8_t { one, many };

/// A text from outside (a model's reply, a file's name, a conversation's id, an error that names them) as people may
/// see it: what would command their terminal, and bytes that are no UTF-8, become \n, \x1b or \u202e. With Lines::many,
/// line feeds and tabs stay.
/// @post escaped(escaped(text)) == escaped(text)
[[nodiscard]] std::string escaped(std::string_view text, Lines lines = Lines::one);

/// A conversation's id as people may see it. No two ids look the same, as they may with escaped(): a backslash becomes
/// two, and a character that is spelled out is told from a byte. A shell's $'...' takes it as it is.
/// @post escaped(escaped_id(id)) == escaped_id(id)
[[nodiscard]] std::string escaped_id(std::string_view id);

/// The length of a text without a character at its end of which bytes are still to come: of a reply that is shown token
/// by token, what can be shown already.
[[nodiscard]] std::size_t whole_characters(std::string_view text);

}  // namespace krul
