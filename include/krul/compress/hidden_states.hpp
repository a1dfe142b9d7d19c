#pragma once

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "krul/backend/lends_hidden_states.hpp"
#include "krul/backend/model_backend.hpp"
#include "krul/compress/chunk_source.hpp"
#include "krul/compress/coding_numbers.hpp"
#include "krul/core/finite.hpp"
#include "krul/core/half.hpp"

namespace krul {

/// The input of every layer for the tokens of a conversation, as two bytes a value: what HCache keeps in place of K and
/// V. A chunk is [T, hidden] as f16, little-endian, and means what the layer's projection makes of it.
/// @source HCache, arXiv:2410.05004; second-hand
class HiddenStates final : public ChunkSource {
 public:
  explicit HiddenStates(const Geometry& geometry) : width_(geometry.hidden), layers_(geometry.layers) {}

  [[nodiscard]] std::uint8_t coding() const noexcept override { return projected_coding; }
  /// Rows of every layer so far.
  [[nodiscard]] std::size_t rows() const noexcept override { return layers_.back().size() / width_; }

  /// @param hidden  [T, hidden], the next tokens' input of the layer
  void append(std::size_t layer, std::span<const float> hidden) {
    auto& values = layers_[layer];
    values.resize(values.size() + hidden.size());
    from_float(ElementType::f16, hidden, std::as_writable_bytes(std::span(values).last(hidden.size())));
  }

  [[nodiscard]] std::vector<std::byte> encode(std::size_t layer, TokenRange tokens) const override {
    const auto bytes = std::as_bytes(std::span(layers_[layer]).subspan(tokens.begin * width_, tokens.size() * width_));
    if (!are_finite(ElementType::f16, bytes))
      throw NotFiniteError("the input of layer " + std::to_string(layer) +
                           " is too large for two bytes a value: store K and V instead");
    return {bytes.begin(), bytes.end()};
  }

 private:
  std::size_t width_;
  std::vector<std::vector<std::uint16_t>> layers_;  ///< [L][T, hidden] f16
};

/// Tokens of a layer and what a chunk holds for them.
struct ProjectedChunk {
  TokenRange tokens;
  std::span<const std::byte> values;  ///< [tokens, hidden] f16
};

/// A chunk's values for these tokens, its leading ones. Its bytes come from a store and are not trusted.
/// @return empty if it does not hold so many finite rows, or batches lend nothing to put them into
template <ModelBackend B>
[[nodiscard]] std::span<const std::byte> projected_values(const B& model, std::span<const std::byte> chunk,
                                                          TokenRange tokens) {
  const std::size_t bytes = tokens.size() * model.geometry().hidden * size_of(ElementType::f16);
  if (!LendsHiddenStates<typename B::Batch> || chunk.size() < bytes) return {};
  return are_finite(ElementType::f16, chunk.first(bytes)) ? chunk.first(bytes) : std::span<const std::byte>();
}

/// Writes the K and V that a layer projects from chunks, in one batch.
/// @param chunks  ascending in tokens, each with values
/// @post every row of theirs is present; no row that was present has changed
template <ModelBackend B>
void project_chunks(B& model, typename B::Cache& cache, std::size_t layer, std::span<const ProjectedChunk> chunks) {
  if constexpr (LendsHiddenStates<typename B::Batch>) {
    if (chunks.empty()) return;
    std::vector<Position> rows;
    for (const ProjectedChunk& chunk : chunks)
      for (std::size_t t = chunk.tokens.begin; t < chunk.tokens.end; ++t) rows.push_back(static_cast<Position>(t));
    auto batch = model.make_batch();
    batch.assign(rows);
    std::span<float> hidden = batch.hidden();
    for (const ProjectedChunk& chunk : chunks) {
      const std::size_t count = chunk.values.size() / size_of(ElementType::f16);
      to_float(ElementType::f16, chunk.values, hidden.first(count));
      hidden = hidden.subspan(count);
    }
    model.project(layer, batch, cache, KvWrite::missing);
  }
}

/// `forward` without logits that also keeps every layer's input.
/// @throws PreconditionError if tokens are none or do not fit the cache
template <ModelBackend B>
requires LendsHiddenStates<typename B::Batch>
void forward_keeping_hidden(B& model, typename B::Cache& cache, typename B::Batch& batch, std::span<const Token> tokens,
                            HiddenStates& hidden) {
  const std::size_t begin = cache.length(), end = begin + tokens.size();
  expects(!tokens.empty() && end <= cache.capacity(), "forward: the tokens do not fit the cache");
  std::vector<Position> positions(tokens.size());
  std::iota(positions.begin(), positions.end(), static_cast<Position>(begin));
  batch.assign(positions);
  model.embed(tokens, batch);
  for (std::size_t layer = 0; layer < model.geometry().layers; ++layer) {
    hidden.append(layer, batch.hidden());
    model.project(layer, batch, cache, KvWrite::all);
    if (layer + 1 == model.geometry().layers) break;
    model.attend(layer, batch, cache, NullObserver{});
    model.finish(layer, batch);
  }
  cache.commit(end);
}

}  // namespace krul
