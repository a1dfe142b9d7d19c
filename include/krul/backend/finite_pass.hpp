#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "krul/backend/model_backend.hpp"
#include "krul/backend/owned_kv_rows.hpp"
#include "krul/core/finite.hpp"

namespace krul {

namespace detail {

/// Says where a pass over these tokens went wrong, by the K and V that it left in the cache.
template <ModelBackend B>
[[nodiscard]] std::string where_not_finite(const B& model, const typename B::Cache& cache, TokenRange tokens) {
  for (std::size_t layer = 0; layer < model.geometry().layers; ++layer) {
    if (!cache.present(layer).contains(tokens)) continue;
    if (!are_finite(model.geometry().cache_type, read_kv_rows(cache, model.geometry(), layer, tokens).view()))
      return "the numbers of layer " + std::to_string(layer) + " are not finite";
  }
  return "the logits are not finite, though K and V of all layers are";
}

}  // namespace detail

/// What every pass asks of the logits that leave it.
/// @param tokens  whose K and V the pass has left in the cache
/// @throws NotFiniteError that names the first layer whose numbers are not finite, unless all logits are
/// @complexity one look at each logit
template <ModelBackend B>
void require_finite(const B& model, const typename B::Cache& cache, TokenRange tokens, std::span<const float> logits) {
  if (are_finite(logits)) return;
  throw NotFiniteError(detail::where_not_finite(model, cache, tokens) +
                       ": the model's weights are damaged, or too large for this precision; try f32, or fetch the "
                       "model anew");
}

}  // namespace krul
