#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string_view>

namespace krul::simulate {

/// The sizes of a decoder-only transformer with a gated MLP: all that its arithmetic and its KV cache follow from.
struct ModelShape {
  std::string_view name;
  std::size_t layers = 0;        ///< L
  std::size_t hidden = 0;        ///< width of the residual stream
  std::size_t query_heads = 0;   ///< H
  std::size_t kv_heads = 0;      ///< G
  std::size_t head_dim = 0;      ///< D
  std::size_t feed_forward = 0;  ///< inner width of the MLP, which has three matrices
  std::size_t vocabulary = 0;
  double weight_bytes = 2;  ///< of one weight

  /// Values in one row of K (or of V): G * D.
  [[nodiscard]] constexpr std::size_t kv_values() const noexcept { return kv_heads * head_dim; }
  /// Bytes of K and V of one token in one layer at two bytes a value.
  [[nodiscard]] constexpr std::size_t row_bytes() const noexcept { return 2 * kv_values() * 2; }
  /// Bytes of K and V of one token in all layers at two bytes a value.
  [[nodiscard]] constexpr std::size_t token_bytes() const noexcept { return layers * row_bytes(); }

  /// Weights that make Q, K and V.
  [[nodiscard]] constexpr double projection_weights() const noexcept {
    return static_cast<double>(hidden * (query_heads + 2 * kv_heads) * head_dim);
  }
  /// Weights of the output projection and the MLP.
  [[nodiscard]] constexpr double finish_weights() const noexcept {
    return static_cast<double>(query_heads * head_dim * hidden + 3 * hidden * feed_forward);
  }
  /// Bytes of all weights: layers, embedding and output.
  [[nodiscard]] constexpr double model_bytes() const noexcept {
    return weight_bytes * (static_cast<double>(layers) * (projection_weights() + finish_weights()) +
                           2 * static_cast<double>(vocabulary * hidden));
  }
};

/// The models of the paper's evaluation, then those that krul was measured with, and two of the same size as the
/// first that share keys.
/// @source sizes from the models' published configurations, second-hand; that the paper ran Qwen2-72B with 8-bit
/// weights:
///         Krul, arXiv:2507.08045, section 8, second-hand. smollm2 and qwen2.5-coder: read from the files.
[[nodiscard]] inline std::span<const ModelShape> model_shapes() noexcept {
  //  name, L, hidden, H, G, D, feed-forward, vocabulary, bytes a weight
  static constexpr std::array<ModelShape, 8> shapes = {{
      {"llama-7b", 32, 4096, 32, 32, 128, 11008, 32000, 2},
      {"llama-30b", 60, 6656, 52, 52, 128, 17920, 32000, 2},
      {"qwen1.5-7b", 32, 4096, 32, 32, 128, 11008, 151936, 2},
      {"qwen2-72b", 80, 8192, 64, 8, 128, 29568, 152064, 1},
      {"smollm2-135m", 30, 576, 9, 3, 64, 1536, 49152, 2},
      {"qwen2.5-coder-0.5b", 24, 896, 14, 2, 64, 4864, 151936, 2},
      {"llama-3-8b", 32, 4096, 32, 8, 128, 14336, 128256, 2},
      {"qwen2.5-7b", 28, 3584, 28, 4, 128, 18944, 152064, 2},
  }};
  return shapes;
}

/// @return null if there is no such model
[[nodiscard]] inline const ModelShape* model_shape(std::string_view name) noexcept {
  for (const ModelShape& shape : model_shapes())
    if (shape.name == name) return &shape;
  return nullptr;
}

}  // namespace krul::simulate
