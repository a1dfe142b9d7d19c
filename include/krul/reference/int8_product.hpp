#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

namespace krul::reference {

/// The Hadamard transform of each group of inputs, orthogonal: out[i] = sum over j of (-1)^bits(i & j) in[j] / sqrt(n),
/// with bits the number of ones. What a last short group lacks is 0.
/// @param n  inputs of a group, a power of two
/// @return   [whole groups]
[[nodiscard]] inline std::vector<double> hadamard(std::span<const double> inputs, std::size_t n) {
  std::vector<double> out((inputs.size() + n - 1) / n * n);
  for (std::size_t at = 0; at < out.size(); ++at)
    for (std::size_t j = 0; j < n && at / n * n + j < inputs.size(); ++j)
      out[at] += (std::popcount(at % n & j) % 2 == 0 ? 1 : -1) * inputs[at / n * n + j] / std::sqrt(n);
  return out;
}

/// Half of the step that int8 rounds values with: their largest size is 127 steps.
[[nodiscard]] inline double half_step(std::span<const double> values) {
  double most = 0;
  for (const double value : values) most = std::max(most, std::abs(value));
  return most / 254;
}

/// How far a product of rounded factors can lie from the exact one.
///
/// With every factor x off by at most e and w by at most d, a term is off by at most |x| d + |w| e + d e. Activations
/// are rounded in groups, weights over the whole depth, both after the transform.
/// @param activations, weights  [whole groups], transformed
/// @param group                 inputs of a group
[[nodiscard]] inline double int8_product_bound(std::span<const double> activations, std::span<const double> weights,
                                               std::size_t group) {
  const double d = half_step(weights);
  double bound = 0;
  for (std::size_t begin = 0; begin < activations.size(); begin += group) {
    const double e = half_step(activations.subspan(begin, group));
    for (std::size_t k = begin; k < begin + group; ++k)
      bound += std::abs(activations[k]) * d + std::abs(weights[k]) * e + d * e;
  }
  return bound;
}

/// The same where weights are not rounded, and activations as they are, in groups.
/// @param activations, weights  [whole groups]
[[nodiscard]] inline double rounded_activations_bound(std::span<const double> activations,
                                                      std::span<const double> weights, std::size_t group) {
  double bound = 0;
  for (std::size_t begin = 0; begin < activations.size(); begin += group) {
    const double e = half_step(activations.subspan(begin, group));
    for (std::size_t k = begin; k < begin + group; ++k) bound += std::abs(weights[k]) * e;
  }
  return bound;
}

}  // namespace krul::reference
