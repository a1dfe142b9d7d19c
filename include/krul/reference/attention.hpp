#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "krul/core/geometry.hpp"
#include "krul/core/tokens.hpp"

namespace krul::reference {

/// Twin of BlockAttention: all scores of one row and head, their softmax, the weighted sum of the values.
struct Attention {
  std::vector<double> out;                   ///< [R, H, D]
  std::vector<std::vector<double>> weights;  ///< [R * H] of [positions[r] + 1]
};

/// @param queries  [R, H, D]
/// @param keys     [T, G, D]
/// @param values   [T, G, D]
[[nodiscard]] inline Attention attention(const Geometry& geometry, std::span<const Position> positions,
                                         std::span<const double> queries, std::span<const double> keys,
                                         std::span<const double> values) {
  const std::size_t dim = geometry.head_dim, heads = geometry.query_heads, group = heads / geometry.kv_heads;
  Attention result;
  for (std::size_t row = 0; row < positions.size(); ++row)
    for (std::size_t head = 0; head < heads; ++head) {
      const auto at = [&](std::size_t key) { return (key * geometry.kv_heads + head / group) * dim; };
      std::vector<double> weights(positions[row] + std::size_t{1});
      double sum = 0;
      for (std::size_t key = 0; key < weights.size(); ++key) {
        double score = 0;
        for (std::size_t d = 0; d < dim; ++d) score += queries[(row * heads + head) * dim + d] * keys[at(key) + d];
        weights[key] = std::exp(score / std::sqrt(static_cast<double>(dim)));
        sum += weights[key];
      }
      std::vector<double> out(dim);
      for (std::size_t key = 0; key < weights.size(); ++key) {
        weights[key] /= sum;
        for (std::size_t d = 0; d < dim; ++d) out[d] += weights[key] * values[at(key) + d];
      }
      result.out.insert(result.out.end(), out.begin(), out.end());
      result.weights.push_back(std::move(weights));
    }
  return result;
}

}  // namespace krul::reference
