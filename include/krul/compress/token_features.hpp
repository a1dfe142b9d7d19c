#pragma once

#include <cmath>
#include <cstddef>
#include <numeric>
#include <span>
#include <vector>

#include "krul/backend/hidden_states.hpp"

namespace krul {

/// What the tokens alone say about their rows: each token's embedding, divided by its root mean square. Nothing of the
/// conversation but its tokens is needed to have them again.
class TokenFeatures {
 public:
  TokenFeatures() = default;
  /// Of the tokens from `first` on.
  /// @throws PreconditionError if a token is not in the vocabulary
  /// @complexity one embedding a token
  template <ModelBackend B>
  requires LendsHiddenStates<typename B::Batch> TokenFeatures(B& model, std::span<const Token> tokens,
                                                              std::size_t first = 0)
      : width_(model.geometry().hidden), first_(first) {
    tokens = tokens.subspan(first);
    auto batch = model.make_batch();
    std::vector<Position> rows(tokens.size());
    std::iota(rows.begin(), rows.end(), Position{0});
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

  /// [T, hidden] of these tokens, none before the first; empty if there are no features.
  [[nodiscard]] std::span<const float> of(TokenRange tokens) const {
    return width_ == 0 ? std::span<const float>{}
                       : std::span(values_).subspan((tokens.begin - first_) * width_, tokens.size() * width_);
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
