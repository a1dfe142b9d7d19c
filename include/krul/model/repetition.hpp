#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "krul/core/tokens.hpp"

namespace krul {

/// What counts as a text that says the same thing over and over.
struct RepetitionRule {
  std::size_t least = 32;     ///< tokens that must repeat what stands before them
  std::size_t longest = 256;  ///< tokens that are repeated, at most
};

/// How many tokens at the end of a text repeat those right before them: at least as many as are repeated, and as the
/// rule asks for. 0 if there are none.
/// @complexity  O(longest) for texts that do not repeat
[[nodiscard]] inline std::size_t repeated_tail(std::span<const Token> text, const RepetitionRule& rule = {}) {
  for (std::size_t period = 1; period <= std::min(rule.longest, text.size() / 2); ++period) {
    const auto [differs, ignored] = std::mismatch(text.rbegin(), text.rend() - static_cast<std::ptrdiff_t>(period),
                                                  text.rbegin() + static_cast<std::ptrdiff_t>(period));
    const auto repeated = static_cast<std::size_t>(differs - text.rbegin());
    if (repeated >= std::max(period, rule.least)) return repeated;
  }
  return 0;
}

}  // namespace krul
