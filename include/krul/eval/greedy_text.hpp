#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "krul/backend/forward.hpp"
#include "krul/backend/next_token.hpp"
#include "krul/core/error.hpp"
#include "krul/eval/continuation.hpp"

namespace krul::eval {

/// A text of the most likely tokens, and what each was chosen from.
struct GreedyText {
  std::vector<Token> tokens;
  std::vector<float> logits;  ///< [tokens, vocabulary]
};

/// The greedy text after a cache and a prompt.
/// @param count  tokens, at least 1; a token that ends a turn ends nothing
/// @throws as prefill
template <ModelBackend B>
[[nodiscard]] GreedyText greedy_text(B& model, typename B::Cache& cache, std::span<const Token> prompt,
                                     std::size_t count) {
  GreedyText text;
  const auto choose = [&](std::span<const float> logits) {
    text.logits.insert(text.logits.end(), logits.begin(), logits.end());
    return std::optional(greedy(logits));
  };
  text.tokens = go_on_from(model, cache, prompt, count, choose);
  return text;
}

/// How far a restored conversation is from a greedy text.
struct TextDivergence {
  double kl = 0;                                ///< nats, mean over the tokens
  std::optional<std::size_t> first_difference;  ///< where it would have chosen another token
};

/// Runs a text's tokens behind a restored cache.
/// @param first  [vocabulary] logits of the prompt that the cache ends with
/// @throws       as forward
template <ModelBackend B>
[[nodiscard]] TextDivergence divergence_from(const GreedyText& text, B& model, typename B::Cache& cache,
                                             std::span<const float> first) {
  const std::size_t vocabulary = model.geometry().vocabulary, steps = text.tokens.size();
  std::vector<float> logits(steps * vocabulary);
  std::copy(first.begin(), first.end(), logits.begin());
  auto batch = model.make_batch();
  if (steps > 1)
    forward(model, cache, batch, std::span(text.tokens).first(steps - 1), std::span(logits).subspan(vocabulary));
  TextDivergence found;
  for (std::size_t i = 0; i < steps; ++i) {
    const auto row = [&](std::span<const float> all) { return NextToken(all.subspan(i * vocabulary, vocabulary)); };
    const auto exact = row(text.logits), restored = row(logits);
    found.kl += exact.divergence_from(restored) / static_cast<double>(steps);
    if (!found.first_difference && restored.top() != text.tokens[i]) found.first_difference = i;
  }
  return found;
}

}  // namespace krul::eval
