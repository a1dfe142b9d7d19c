#pragma once

#include <cmath>
#include <cstddef>
#include <numeric>
#include <span>
#include <vector>

#include "krul/backend/lends_hidden_states.hpp"
#include "krul/backend/model_backend.hpp"
#include "krul/core/tokens.hpp"

namespace krul {

/// What the tokens alone say about their rows: each token's embedding at its own position, divided by its root mean
/// square. Nothing of the conversation but its tokens and where they stand is needed to have them again, however saves
/// and restores cut it.
class TokenFeatures {
 public:
  TokenFeatures() = default;
  /// Of a conversation's tokens from `first` on.
  /// @param tokens  from position 0 on
  /// @throws PreconditionError if a token is not in the vocabulary, or `first` lies behind the last one
  /// @complexity one embedding a token
  template <ModelBackend B>
  requires LendsHiddenStates<typename B::Batch> TokenFeatures(B& model, std::span<const Token> tokens,
                                                              std::size_t first = 0)
      : width_(model.geometry().hidden), first_(first) {
    expects(first <= tokens.size(), "TokenFeatures: the first token lies behind the last");
    tokens = tokens.subspan(first);
    auto batch = model.make_batch();
    std::vector<Position> rows(tokens.size());
    std::iota(rows.begin(), rows.end(), static_cast<Position>(first));
    batch.assign(rows);
    model.embed(tokens, batch);
    const std::span<const float> hidden = batch.hidden();
    values_.assign(hidden.begin(), hidden.end());
    for (std::size_t row = 0; row < tokens.size(); ++row) {
      const auto token = std::span(values_).subspan(row * width_, width_);
      float sum = 0;
      for (const float value : token) sum += value * value;
      const float scale = 1 / std::sqrt(sum / static_cast<float>(width_) + 1e-12F);
      for (float& value : token) value *= scale;
    }
  }

  /// Whether there are any: a backend may have none.
  [[nodiscard]] bool exist() const noexcept { return width_ != 0; }

  /// [T, hidden] of these tokens; empty if there are no features.
  /// @throws PreconditionError if these tokens' features were not computed
  [[nodiscard]] std::span<const float> of(TokenRange tokens) const {
    if (!exist()) return {};
    expects(first_ <= tokens.begin && tokens.begin <= tokens.end && (tokens.end - first_) * width_ <= values_.size(),
            "TokenFeatures: these tokens were not looked at");
    return std::span(values_).subspan((tokens.begin - first_) * width_, tokens.size() * width_);
  }

 private:
  std::size_t width_ = 0, first_ = 0;
  std::vector<float> values_;  // [N - first, hidden]
};

/// The features of tokens under any backend: none where its batches do not lend hidden states.
template <ModelBackend B>
[[nodiscard]] TokenFeatures token_features(B& model, std::span<const Token> tokens, std::size_t first = 0) {
  if constexpr (LendsHiddenStates<typename B::Batch>) {
    return TokenFeatures(model, tokens, first);
  } else {
    return {};
  }
}

}  // namespace krul
