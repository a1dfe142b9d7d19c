#pragma once

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "krul/backend/forward.hpp"
#include "krul/core/clock.hpp"
#include "krul/eval/paired_rounds.hpp"

namespace krul::eval {

/// Runs the same tokens behind the same history again and again, in as few calls as prefill makes of them.
template <ModelBackend B, Clock C = SteadyClock>
class PrefillBench {
 public:
  /// Runs the history.
  /// @param tokens   the history, and those that are run behind it
  /// @param history  of them; may be 0
  /// @throws         PreconditionError if nothing is left to run; as prefill
  PrefillBench(B& model, std::vector<Token> tokens, std::size_t history, C clock = {})
      : model_(model),
        clock_(std::move(clock)),
        tokens_(std::move(tokens)),
        history_(history),
        cache_(model.make_cache(tokens_.size())),
        batch_(model.make_batch()),
        logits_(model.geometry().vocabulary) {
    expects(history < tokens_.size(), "PrefillBench: no tokens to run");
    if (history > 0) prefill(model, cache_, batch_, std::span<const Token>(tokens_).first(history), {});
  }

  /// One pass, with the logits of its last token.
  /// @return seconds
  [[nodiscard]] double pass_s() {
    cache_.truncate(history_);
    return seconds_taken(
        clock_, [&] { prefill(model_, cache_, batch_, std::span<const Token>(tokens_).subspan(history_), logits_); });
  }

  /// [vocabulary] of the last pass
  [[nodiscard]] std::span<const float> logits() const noexcept { return logits_; }

 private:
  B& model_;
  C clock_;
  std::vector<Token> tokens_;
  std::size_t history_;
  typename B::Cache cache_;
  typename B::Batch batch_;
  std::vector<float> logits_;
};

}  // namespace krul::eval
