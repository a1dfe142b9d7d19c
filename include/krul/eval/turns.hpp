#pragma once

#include <cstddef>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/core/tokens.hpp"

namespace krul::eval {

/// Cuts a text into turns of the same length; what is left over at the end belongs to none.
/// @param tokens  of the text
/// @return        [turns], each of floor(tokens / turns) tokens, without gaps
/// @throws        PreconditionError if there are no turns, or fewer tokens than turns
[[nodiscard]] inline std::vector<TokenRange> equal_turns(std::size_t tokens, std::size_t turns) {
  expects(turns > 0 && tokens >= turns, "equal_turns: at least one turn, and a token for each");
  const std::size_t length = tokens / turns;
  std::vector<TokenRange> found;
  for (std::size_t turn = 0; turn < turns; ++turn) found.push_back({turn * length, (turn + 1) * length});
  return found;
}

}  // namespace krul::eval
