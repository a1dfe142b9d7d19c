#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "krul/core/error.hpp"

namespace krul {

/// How a text is cut into pieces before byte-pair merging; merges never cross a cut. Each reproduces the regular
/// expressions that its model family was trained with, code point by code point: letters are \p{L}, numbers \p{N},
/// white space is Unicode's White_Space. A byte that is not part of well-formed UTF-8 counts as a symbol by itself.
/// Code points that Unicode assigned after the version utf8proc knows count as symbols too.
enum class PreTokenizer : std::uint8_t {
  smollm,     ///< every number alone, then as gpt2 within what lies between numbers
  qwen2,      ///< as llama_bpe with every number alone
  gpt2,       ///< contractions; letters, numbers or symbols with a space before them; white space
  llama_bpe,  ///< any-case contractions; letters after one symbol or blank; up to 3 numbers; symbols; line ends
};

/// The spelling in model files: "smollm", "qwen2", "gpt-2", "llama-bpe".
[[nodiscard]] std::string_view name(PreTokenizer kind) noexcept;

/// The inverse of name(); unsupported for any other name, which the message says beside the known ones.
[[nodiscard]] Result<PreTokenizer> pre_tokenizer_named(std::string_view name);

/// Bytes of the first piece of `text`; 0 only for the empty text. What follows the piece is cut as if it stood alone.
/// Linear in the piece, or in the run of white space at the front.
[[nodiscard]] std::size_t first_piece(PreTokenizer kind, std::string_view text) noexcept;

/// Calls visit(piece) for the pieces in order: none empty, together the text.
template <std::invocable<std::string_view> Visit>
void for_each_piece(PreTokenizer kind, std::string_view text, Visit&& visit) {
  while (!text.empty()) {
    const std::size_t size = first_piece(kind, text);
    visit(text.substr(0, size));
    text.remove_prefix(size);
  }
}

}  // namespace krul
