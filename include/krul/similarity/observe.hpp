#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "krul/backend/forward.hpp"

namespace krul {

/// `prefill` under the eyes of an observer, in pieces that suit it: at most `piece` tokens, and at most
/// observer.block_rows() of them unless more rows of logits are wanted.
/// @param logits  [rows, vocabulary], next-token logits of the last `rows` tokens; may be empty
/// @throws        PreconditionError as forward and the observer, and if piece is 0
template <ModelBackend B, TokenwiseObserver O>
void observed_prefill(B& model, typename B::Cache& cache, typename B::Batch& batch, std::span<const Token> tokens,
                      std::span<float> logits, O& observer) {
  constexpr std::size_t piece = 2048;
  const std::size_t rows = std::max<std::size_t>(logits.size() / model.geometry().vocabulary, 1);
  if constexpr (ForesightedObserver<O>) observer.observe_until(static_cast<Position>(cache.length() + tokens.size()));
  for (std::size_t most; tokens.size() > (most = std::max(rows, std::min(piece, observer.block_rows())));) {
    const std::size_t next = std::min(most, tokens.size() - rows);
    forward(model, cache, batch, tokens.first(next), {}, observer);
    tokens = tokens.subspan(next);
  }
  forward(model, cache, batch, tokens, logits, observer);
}

}  // namespace krul
