#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/core/tokens.hpp"
#include "krul/model/sampling.hpp"

namespace krul {

/// Why a reply is over: the model ended it, it is as long as it may be, there is no room for more, somebody interrupted
/// it, or what it is shown on takes no more.
enum class Ended : std::uint8_t { stop, length, context, interrupted, output };

/// "stop", "length", "context", "interrupted", "output"
[[nodiscard]] std::string_view name(Ended ended);

/// What a reply is made with.
struct ReplySteps {
  std::function<bool(Token)> ends;    ///< whether a token ends the turn
  std::function<Status(Token)> next;  ///< runs one token and leaves the logits after it; too_large: there is no room
  std::function<bool(Token)> show;    ///< gets each token as it comes; false: it cannot be shown
  std::function<bool()> interrupted;  ///< whether the reply has to end now
};

/// What a model said in its turn.
struct Reply {
  std::vector<Token> tokens;  ///< without the one that ended it
  std::optional<Token> end;   ///< the token that ended the turn; none if the reply was cut short
  Ended ended = Ended::stop;
  bool last_was_run = true;  ///< whether `next` has run the last of the tokens
};

/// Samples until the turn ends or is cut short.
/// @param logits  [vocabulary], of the last prompt token; afterwards of the last token that was run
/// @param most    tokens of the reply, at least 1
/// @return        what `next` failed with, other than too_large
/// @throws        as Sampler
[[nodiscard]] Result<Reply> sample_reply(const SamplingOptions& sampling, std::size_t most, std::span<float> logits,
                                         const ReplySteps& steps);

}  // namespace krul
