#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "krul/backend/forward.hpp"
#include "krul/similarity/tokenwise_similarity_estimator.hpp"

namespace krul {

/// `prefill` under the eyes of an estimator, in pieces that suit its metric: at most `piece` tokens, and at most
/// estimator.block_rows() of them unless more rows of logits are wanted.
/// @param logits  [rows, vocabulary], next-token logits of the last `rows` tokens; may be empty
/// @throws        PreconditionError as forward and the estimator, and if piece is 0
template <ModelBackend B, SimilarityMetric Metric>
void observed_prefill(B& model, typename B::Cache& cache, typename B::Batch& batch, std::span<const Token> tokens,
                      std::span<float> logits, TokenwiseSimilarityEstimator<Metric>& estimator) {
  constexpr std::size_t piece = 2048;
  const std::size_t rows = std::max<std::size_t>(logits.size() / model.geometry().vocabulary, 1);
  for (std::size_t most; tokens.size() > (most = std::max(rows, std::min(piece, estimator.block_rows())));) {
    const std::size_t next = std::min(most, tokens.size() - rows);
    forward(model, cache, batch, tokens.first(next), {}, estimator);
    tokens = tokens.subspan(next);
  }
  forward(model, cache, batch, tokens, logits, estimator);
}

}  // namespace krul
