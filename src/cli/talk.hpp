#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
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

/// Why a reply is over: the model ended it, it has --max-tokens, the context is full, a signal came, or standard output
/// cannot be written any more.
enum class Ended : std::uint8_t { stop, length, context, interrupted, output };

/// "stop", "length", "context", "interrupted", "output"
[[nodiscard]] std::string_view name(Ended ended);

/// What a reply is made with.
struct ReplySteps {
  std::function<Status(Token)> next;  ///< runs one token and leaves the logits after it; too_large: there is no room
  std::function<bool(Token)> show;    ///< gets each token as it comes; false: it cannot be shown
  std::function<bool()> interrupted;  ///< whether the reply has to end now
};

struct Reply {
  std::vector<Token> tokens;  ///< without the one that ended it
  std::optional<Token> end;   ///< the token that ended the turn; none if the reply was cut short
  Ended ended = Ended::stop;
  bool last_was_run = true;  ///< whether `next` has run the last of the tokens
};

/// Samples until the turn ends or is cut short.
/// @param logits  [vocabulary], of the last prompt token; afterwards of the last token that was run
/// @return        what a step failed with, other than too_large
[[nodiscard]] Result<Reply> sample_reply(const LoadedModel& model, const ReplyOptions& options, std::span<float> logits,
                                         const ReplySteps& steps);

class Interruption;

/// Writes a reply to standard output as it comes, but not with --json; on a terminal, what would command it is escaped.
class ReplyWriter {
 public:
  ReplyWriter(const Tokenizer& tokenizer, const Tool& tool);
  /// @return whether it could be written
  bool show(Token token);
  /// What is left, and the end of the line.
  void end();

 private:
  void write(std::string_view text);

  const Tokenizer& tokenizer_;
  bool silent_, escapes_;
  std::string pending_;  ///< a character of which bytes are still to come
};

/// A reply's steps that show each token and end with an interruption; both are borrowed. `next` is still to be set.
[[nodiscard]] ReplySteps shown_steps(ReplyWriter& writer, const Interruption& interruption);

}  // namespace krul::cli
