#pragma once

#include <concepts>
#include <cstddef>
#include <span>
#include <vector>

#include "krul/backend/forward.hpp"
#include "krul/backend/model_backend.hpp"

namespace krul {

/// Tokens with which one of several conversations goes on.
template <KvCache C>
struct Continuation {
  C* cache;
  std::span<const Token> tokens;  ///< [T] those that follow the cache's committed length
};

/// A backend whose passes may run over rows of several caches, so that each weight is read once for all of them. The
/// i-th run of the batch's rows belongs to the i-th of the caches, which differ.
template <class B>
concept BatchesCaches = ModelBackend<B> &&
    requires(B& model, typename B::Batch& batch, std::size_t layer, std::span<typename B::Cache* const> caches,
             std::span<const Position> positions, std::span<const RowRange> runs) {
  { batch.assign_runs(positions, runs) } -> std::same_as<void>;
  { model.project(layer, batch, caches, KvWrite::all) } -> std::same_as<void>;
  { model.attend(layer, batch, caches) } -> std::same_as<void>;
};

/// Whether a backend's passes may run over rows of several caches: as its type says, unless it has a member function
/// `bool batches_caches() const`, because that is known only when a program runs.
template <ModelBackend B>
[[nodiscard]] constexpr bool batches_caches(const B& model) {
  if constexpr (!BatchesCaches<B>) {
    return false;
  } else if constexpr (requires {
                         { model.batches_caches() } -> std::same_as<bool>;
                       }) {
    return model.batches_caches();
  } else {
    return true;
  }
}

namespace detail {

/// One pass for all of them.
template <BatchesCaches B>
void forward_together(B& model, typename B::Batch& batch, std::span<const Continuation<typename B::Cache>> parts,
                      std::span<float> logits) {
  const std::size_t layers = model.geometry().layers;
  std::vector<typename B::Cache*> caches;
  std::vector<Position> positions;
  std::vector<Token> tokens;
  std::vector<RowRange> runs, last_rows;
  for (const auto& [cache, more] : parts) {
    caches.push_back(cache);
    runs.push_back({tokens.size(), tokens.size() + more.size()});
    last_rows.push_back({runs.back().end - 1, runs.back().end});
    for (std::size_t i = 0; i < more.size(); ++i) positions.push_back(static_cast<Position>(cache->length() + i));
    tokens.insert(tokens.end(), more.begin(), more.end());
  }
  batch.assign_runs(positions, runs);
  model.embed(tokens, batch);
  for (std::size_t layer = 0; layer < layers; ++layer) {
    model.project(layer, batch, caches, KvWrite::all);
    if (layer + 1 == layers) batch.keep(last_rows);
    model.attend(layer, batch, caches);
    model.finish(layer, batch);
  }
  model.logits(batch, {0, parts.size()}, logits);
  const std::size_t vocabulary = logits.size() / parts.size();
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const auto& [cache, more] = parts[i];
    require_finite(model, *cache, {cache->length(), cache->length() + more.size()},
                   logits.subspan(i * vocabulary, vocabulary));
  }
  for (const auto& [cache, more] : parts) cache->commit(cache->length() + more.size());
}

}  // namespace detail

/// `forward` for several conversations, in one pass where the backend can.
/// @param parts   [n] with different caches
/// @param logits  [n, vocabulary], next-token logits of each part's last token
/// @post          caches and logits are as after `forward` of one part after another, bit for bit where a row's bits do
///                not depend on the rows beside it
/// @throws        PreconditionError if a part has no tokens or its cache no room for them, or logits are not as many;
///                NotFiniteError if logits are not finite
/// @complexity    holds the activations of all parts' tokens
template <ModelBackend B>
void forward_each(B& model, typename B::Batch& batch, std::span<const Continuation<typename B::Cache>> parts,
                  std::span<float> logits) {
  const std::size_t vocabulary = model.geometry().vocabulary;
  expects(logits.size() == parts.size() * vocabulary, "forward_each: the logits are not [parts, vocabulary]");
  for (const auto& [cache, tokens] : parts)
    expects(!tokens.empty() && cache->length() + tokens.size() <= cache->capacity(),
            "forward_each: the tokens do not fit their cache");
  if (parts.empty()) return;
  if constexpr (BatchesCaches<B>)
    if (batches_caches(model)) return detail::forward_together(model, batch, parts, logits);
  for (std::size_t i = 0; i < parts.size(); ++i)
    forward(model, *parts[i].cache, batch, parts[i].tokens, logits.subspan(i * vocabulary, vocabulary));
}

}  // namespace krul
