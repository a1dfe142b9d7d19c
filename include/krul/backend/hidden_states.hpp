#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <span>
#include <vector>

#include "krul/backend/model_backend.hpp"
#include "krul/core/half.hpp"

namespace krul {

/// A batch that lends its hidden states, [R, hidden]: what it takes to begin a pass in the middle of a model.
template <class B>
concept LendsHiddenStates = requires(B& batch) {
  { batch.hidden() } -> std::convertible_to<std::span<float>>;
};

/// How a stored chunk says that it holds a layer's input, [T, hidden] as f16, little-endian, instead of K and V.
inline constexpr std::uint8_t hidden_states_coding = 0x32;

/// The input of every layer for the tokens of a conversation, as two bytes a value: what HCache keeps in place of K and
/// V.
/// @source HCache, arXiv:2410.05004; second-hand
class HiddenStates {
 public:
  explicit HiddenStates(const Geometry& geometry) : width_(geometry.hidden), layers_(geometry.layers) {}

  /// Rows of every layer so far.
  [[nodiscard]] std::size_t rows() const noexcept { return layers_.back().size() / width_; }

  /// @param hidden  [T, hidden], the next tokens' input of the layer
  void append(std::size_t layer, std::span<const float> hidden) {
    auto& values = layers_[layer];
    values.resize(values.size() + hidden.size());
    from_float(ElementType::f16, hidden, std::as_writable_bytes(std::span(values).last(hidden.size())));
  }

  /// @return the chunk of these tokens
  [[nodiscard]] std::vector<std::byte> encode(std::size_t layer, TokenRange tokens) const {
    const auto bytes = std::as_bytes(std::span(layers_[layer]).subspan(tokens.begin * width_, tokens.size() * width_));
    return {bytes.begin(), bytes.end()};
  }

 private:
  std::size_t width_;
  std::vector<std::vector<std::uint16_t>> layers_;  ///< [L][T, hidden] f16
};

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
