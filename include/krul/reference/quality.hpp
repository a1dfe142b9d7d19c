#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

namespace krul::reference {

/// Natural logarithms of the probabilities that a row of logits stands for.
/// @param logits  [vocabulary], finite, not empty
/// @return        [vocabulary]
[[nodiscard]] inline std::vector<double> log_softmax(std::span<const float> logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double weight = 0;
  for (const float logit : logits) weight += std::exp(logit - largest);
  std::vector<double> found;
  for (const float logit : logits) found.push_back((logit - largest) - std::log(weight));
  return found;
}

/// KL(reference || candidate) in nats, term by term as in the textbook; may be a rounding error below zero.
/// @param reference, candidate  [vocabulary], finite, of the same length
[[nodiscard]] inline double kl_divergence(std::span<const float> reference, std::span<const float> candidate) {
  const auto p = log_softmax(reference);
  const auto q = log_softmax(candidate);
  double sum = 0;
  for (std::size_t token = 0; token < p.size(); ++token) sum += std::exp(p[token]) * (p[token] - q[token]);
  return sum;
}

}  // namespace krul::reference
