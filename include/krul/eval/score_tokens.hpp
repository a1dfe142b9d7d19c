#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "krul/backend/forward.hpp"
#include "krul/backend/next_token.hpp"
#include "krul/core/error.hpp"

namespace krul::eval {

/// Called piece by piece with the next-token logits of its tokens, [tokens of the piece, vocabulary], and how many
/// tokens there have been.
using ScoredPiece = std::function<void(std::span<const float>, std::size_t)>;

/// Natural log-probability of each token but the first, given those before it.
/// @param tokens  [T], at least one
/// @param seen    may be empty
/// @return        [T - 1]
/// @throws PreconditionError if there is no token; NotFiniteError if the model's numbers are not finite
/// @complexity    one pass in pieces of 128 tokens
template <ModelBackend B>
[[nodiscard]] std::vector<double> score_tokens(B& model, std::span<const Token> tokens, const ScoredPiece& seen = {}) {
  constexpr std::size_t piece = 128;
  expects(!tokens.empty(), "score_tokens: no tokens");
  const std::size_t vocabulary = model.geometry().vocabulary;
  auto cache = model.make_cache(tokens.size());
  auto batch = model.make_batch();
  std::vector<float> logits(std::min(piece, tokens.size()) * vocabulary);
  std::vector<double> found;
  for (std::size_t begin = 0; begin < tokens.size(); begin += piece) {
    const std::size_t count = std::min(piece, tokens.size() - begin);
    const auto rows = std::span(logits).first(count * vocabulary);
    forward(model, cache, batch, tokens.subspan(begin, count), rows);
    for (std::size_t row = 0; row < count && begin + row + 1 < tokens.size(); ++row)
      found.push_back(NextToken(rows.subspan(row * vocabulary, vocabulary)).log_probability(tokens[begin + row + 1]));
    if (seen) seen(rows, begin + count);
  }
  return found;
}

}  // namespace krul::eval
