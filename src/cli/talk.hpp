#pragma once

#include <functional>
#include <span>
#include <vector>

#include "krul/model/sampling.hpp"
#include "tool.hpp"

namespace krul::cli {

/// --max-tokens, --temperature, --top-k, --top-p, --seed
struct ReplyOptions {
  std::size_t max_tokens = 256;
  SamplingOptions sampling;

  void add_to(CLI::App& verb);
};

/// A reply as it comes: `next` runs a token and leaves the logits after it.
struct Reply {
  std::vector<Token> tokens;  ///< without the one that ended it
  std::optional<Token> end;   ///< the token that ended the turn; none if the reply was cut short
};

/// Samples until the turn ends, the number of tokens is reached, or `next` says that there is no room.
/// @param logits  [vocabulary], of the last prompt token; afterwards of the last token that was run
/// @param next    runs one token and fills `logits`; false: no room
/// @param show    gets each token as it comes
[[nodiscard]] Reply sample_reply(const LoadedModel& model, const ReplyOptions& options, std::span<float> logits,
                                 const std::function<bool(Token)>& next, const std::function<void(Token)>& show);

/// Writes tokens to standard output as they come, but not with --json.
[[nodiscard]] std::function<void(Token)> show_on_terminal(const LoadedModel& model, const Tool& tool);

}  // namespace krul::cli
