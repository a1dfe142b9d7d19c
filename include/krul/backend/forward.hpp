#pragma once

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <span>
#include <vector>

#include "krul/backend/finite_pass.hpp"
#include "krul/backend/model_backend.hpp"

namespace krul {

namespace detail {

/// The last `needed` rows and those that an observer wants to see, as ascending ranges.
template <AttentionObserver O>
std::vector<RowRange> wanted_rows(std::span<const Position> positions, std::size_t needed, const O& observer) {
  std::vector<RowRange> ranges;
  for (std::size_t row = 0; row < positions.size(); ++row) {
    bool wanted = !std::same_as<O, NullObserver>;
    if constexpr (SelectiveObserver<O>) wanted = observer.wants(positions[row]);
    if (!wanted && row + needed < positions.size()) continue;
    if (ranges.empty() || ranges.back().end != row) ranges.push_back({row, row});
    ranges.back().end = row + 1;
  }
  return ranges;
}

}  // namespace detail

/// Runs tokens through all layers at the end of a cache and commits them: prefill for many, decode for one.
///
/// Only what the logits need goes on past the last layer's K and V: for one row of logits, the usual case, the last
/// layer's attention and MLP run for one row.
/// @param tokens    [T] the tokens that follow the cache's committed length
/// @param logits    [rows, vocabulary], next-token logits of the last `rows` tokens; may be empty
/// @param observer  sees the attention weights; the rows that it wants to see pass through the last attention too
/// @post            cache.length() has grown by T
/// @throws          PreconditionError if tokens are none or do not fit, or logits hold no whole rows; NotFiniteError if
///                  logits are not finite, and nothing is committed then
/// @complexity      one pass; holds the activations of T rows, so cut long inputs with prefill
template <ModelBackend B, AttentionObserver O = NullObserver>
void forward(B& model, typename B::Cache& cache, typename B::Batch& batch, std::span<const Token> tokens,
             std::span<float> logits, O&& observer = {}) {
  const Geometry& geometry = model.geometry();
  const std::size_t begin = cache.length(), end = begin + tokens.size();
  const std::size_t rows = logits.size() / geometry.vocabulary;
  expects(!tokens.empty() && end <= cache.capacity(), "forward: the tokens do not fit the cache");
  expects(rows * geometry.vocabulary == logits.size() && rows <= tokens.size(), "forward: logits hold no whole rows");

  std::vector<Position> positions(tokens.size());
  std::iota(positions.begin(), positions.end(), static_cast<Position>(begin));
  batch.assign(positions);
  model.embed(tokens, batch);
  for (std::size_t layer = 0; layer < geometry.layers; ++layer) {
    model.project(layer, batch, cache, KvWrite::all);
    const bool last = layer + 1 == geometry.layers;
    if (last) {
      const auto seen = detail::wanted_rows(positions, rows, observer);
      batch.keep(seen);
      if (seen.empty()) break;
    }
    model.attend(layer, batch, cache, observer);
    if (last) {
      const std::size_t left = batch.positions().size();
      const RowRange needed{left - rows, left};
      batch.keep(std::span(&needed, 1));
      if (rows == 0) break;
    }
    model.finish(layer, batch);
  }
  if (rows > 0) {
    model.logits(batch, RowRange{0, rows}, logits);
    require_finite(model, cache, {begin, end}, logits);
  }
  cache.commit(end);
}

/// `forward` in pieces of at most `piece` tokens (or as many as there are rows of logits), so that memory stays
/// bounded.
/// @param logits  [rows, vocabulary], next-token logits of the last `rows` tokens; may be empty
/// @throws        PreconditionError as forward, and if piece is 0
template <ModelBackend B>
void prefill(B& model, typename B::Cache& cache, typename B::Batch& batch, std::span<const Token> tokens,
             std::span<float> logits, std::size_t piece = 2048) {
  expects(piece > 0, "prefill: pieces of at least one token");
  const std::size_t rows = std::max<std::size_t>(logits.size() / model.geometry().vocabulary, 1);
  while (tokens.size() > std::max(piece, rows)) {
    const std::size_t next = std::min(piece, tokens.size() - rows);
    forward(model, cache, batch, tokens.first(next), {});
    tokens = tokens.subspan(next);
  }
  forward(model, cache, batch, tokens, logits);
}

}  // namespace krul
