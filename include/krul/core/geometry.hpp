#pragma once

#include <cstddef>
#include <cstdint>

#include "krul/core/element_type.hpp"

namespace krul {

/// How the dimensions of a head are paired for the rotary embedding.
enum class RotaryPairs : std::uint8_t {
  interleaved,  ///< (0,1), (2,3), ...: the llama layout of GGUF files
  halves,       ///< (0,D/2), (1,D/2+1), ...: "neox"
};

/// Rotary position embedding: pair i of `dimensions`/2 turns by position * base^(-2i/dimensions).
struct Rotary {
  RotaryPairs pairs = RotaryPairs::interleaved;
  std::size_t dimensions = 0;  ///< leading dimensions of each head that are rotated, even
  double base = 10000.0;
  friend bool operator==(const Rotary&, const Rotary&) = default;
};

/// The sizes of a decoder-only transformer that krul needs to know.
struct Geometry {
  std::size_t layers = 0;       ///< L
  std::size_t query_heads = 0;  ///< H, a multiple of G
  std::size_t kv_heads = 0;     ///< G
  std::size_t head_dim = 0;     ///< D
  std::size_t hidden = 0;       ///< width of the residual stream
  std::size_t vocabulary = 0;
  std::size_t context = 0;  ///< longest conversation in tokens
  ElementType cache_type = ElementType::f16;
  Rotary rotary = {};
  friend bool operator==(const Geometry&, const Geometry&) = default;

  /// Values in one row of K (or of V): G * D.
  [[nodiscard]] std::size_t kv_values() const noexcept { return kv_heads * head_dim; }
  /// Bytes of one row of K (or of V) in the cache.
  [[nodiscard]] std::size_t kv_row_bytes() const noexcept { return kv_values() * size_of(cache_type); }
  /// Bytes a token of the whole cache would take at two bytes a value: what ratios of bytes refer to.
  [[nodiscard]] std::size_t f16_token_bytes() const noexcept { return layers * 2 * kv_values() * 2; }
};

}  // namespace krul
