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

/// Cuts a text so that its last turn is the last `last` tokens, however many turns there are: what is judged there
/// differs by the history of saves alone.
/// @return  [turns], the others of the same length, but that the one before the last takes what is left over
/// @throws  PreconditionError if there are fewer than two turns, or too few tokens
[[nodiscard]] inline std::vector<TokenRange> turns_before_last(std::size_t tokens, std::size_t turns,
                                                               std::size_t last) {
  expects(turns >= 2 && last > 0 && tokens > last, "turns_before_last: at least two turns, and a token for each");
  auto found = equal_turns(tokens - last, turns - 1);
  found.back().end = tokens - last;
  found.push_back({tokens - last, tokens});
  return found;
}

/// How texts are cut into turns.
struct TurnCut {
  std::size_t turns = 2;
  std::size_t last = 0;  ///< tokens of the last one; 0: as long as the others

  /// Two tokens a turn: what the model says after the last one of a turn is not judged.
  [[nodiscard]] std::size_t least_tokens() const noexcept { return last > 0 ? 2 * (turns - 1) + last : 2 * turns; }
  /// @throws PreconditionError as equal_turns and turns_before_last
  [[nodiscard]] std::vector<TokenRange> of(std::size_t tokens) const {
    return last > 0 ? turns_before_last(tokens, turns, last) : equal_turns(tokens, turns);
  }
};

}  // namespace krul::eval
