#pragma once

#include <cstddef>
#include <cstdint>

#include "krul/core/element_type.hpp"
#include "krul/cuda/kernel_block.hpp"
#include "krul/cuda/kernels/device_math.hpp"

namespace krul::cuda {

/// Queries of some rows and one layer's cache, in a device's memory.
struct AttentionRows {
  const float* queries;            ///< [R, H, D], after the rotary embedding
  const std::uint32_t* positions;  ///< [R], ascending; row r sees keys 0 .. positions[r], all of which are there
  const void *keys, *values;       ///< [T, G, D] each, of the cache's type, aligned to 16 bytes; T > positions[R - 1]
  std::uint32_t rows, heads, kv_heads, dim;  ///< R, H, G, D; H a multiple of G, D one of 8 up to 256
  float scale;                               ///< score_scale(D)
};

/// Where attention leaves off. Its parts, if keys are split, are joined by JoinSplits.
struct AttentionResult {
  ElementType type;  ///< of out
  void* out;         ///< [R, H, D]
  float* log_sums;   ///< [R, H] log2 of the sum over keys of e^(q k / sqrt(D)); may be null
  float* parts;      ///< room for splits, see AttentionPlan; null if there is one
};

/// How keys are split: split s takes those from s * keys on, the last one all that are left.
struct KeySplits {
  std::uint32_t count = 1;
  std::uint32_t keys = 0;  ///< if there are several: a multiple of 64

  [[nodiscard]] KRUL_DEVICE std::uint32_t end(std::uint32_t split) const {
    return split + 1 == count ? 0xffffffffU : (split + 1) * keys;
  }
};

namespace detail {

[[nodiscard]] KRUL_DEVICE inline std::uint32_t smaller(std::uint32_t a, std::uint32_t b) {
  return a < b ? a : b;
}

/// Where split s leaves its part of a row and head: sums of values in units of 2^top, and the sum of their weights.
struct AttentionParts {
  float *out, *tops, *sums;  ///< [S, R * H, D], [S, R * H] twice

  [[nodiscard]] KRUL_DEVICE static AttentionParts of(const AttentionRows& in, float* room, std::uint32_t splits) {
    if (!room) return {};
    const std::size_t count = std::size_t{splits} * in.rows * in.heads;
    return {room, room + count * in.dim, room + count * (in.dim + 1)};
  }
};

/// Query rows that share a KV head's keys, of all rows of a batch or of some: pair p is head p % (H / G) of the KV
/// head's at place p / (H / G).
struct QueryPairs {
  AttentionRows in;
  const std::uint32_t* chosen;  ///< [places] ascending rows; null: all
  std::uint32_t places;

  struct Pair {
    std::uint32_t place = 0, head = 0, seen = 0;  ///< seen: keys that it sees; none if there is no such pair
    std::size_t at = 0;                           ///< in [R, H]
  };

  [[nodiscard]] KRUL_DEVICE std::uint32_t group() const { return in.heads / in.kv_heads; }
  [[nodiscard]] KRUL_DEVICE std::uint32_t count() const { return places * group(); }
  [[nodiscard]] KRUL_DEVICE std::uint32_t row(std::uint32_t place) const {
    return chosen == nullptr ? place : chosen[place];
  }
  [[nodiscard]] KRUL_DEVICE Pair pair(std::uint32_t number, std::uint32_t kv_head) const {
    if (number >= count()) return {};
    const std::uint32_t place = number / group(), head = kv_head * group() + number % group();
    return {place, head, in.positions[row(place)] + 1, std::size_t{row(place)} * in.heads + head};
  }
  /// Keys that any of `some` pairs from `first` on sees: as many as the last one.
  [[nodiscard]] KRUL_DEVICE std::uint32_t seen_until(std::uint32_t first, std::uint32_t some) const {
    if (first >= count()) return 0;
    return in.positions[row((smaller(first + some, count()) - 1) / group())] + 1;
  }
  /// Null if there is no such pair.
  [[nodiscard]] KRUL_DEVICE const float* query(const Pair& pair) const {
    return pair.seen == 0 ? nullptr : in.queries + pair.at * in.dim;
  }
};

/// The score of a query and a key of f32.
[[nodiscard]] KRUL_DEVICE inline float scaled_product(const AttentionRows& in, const float* query, const float* key) {
  float product = 0;
  for (std::uint32_t d = 0; d < in.dim; ++d) product = fused(query[d], key[d], product);
  return product * in.scale;
}

/// A score, or NaN if it is not finite: an infinite one, too, must be seen in the result.
[[nodiscard]] KRUL_DEVICE inline float seen_score(float score) {
  return fused(score, 0.0F, score);
}

/// What scores are subtracted from: finite where all so far are -infinity.
[[nodiscard]] KRUL_DEVICE inline float finite_top(float top) {
  return top == -infinity() ? 0.0F : top;
}

}  // namespace detail

}  // namespace krul::cuda
