#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <random>
#include <span>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/core/tokens.hpp"

namespace krul {

/// The token with the largest logit; the first of equals.
/// @throws PreconditionError if there are no logits
[[nodiscard]] inline Token greedy(std::span<const float> logits) {
  expects(!logits.empty(), "greedy: no logits");
  return static_cast<Token>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

struct SamplingOptions {
  double temperature = 1.0;  ///< logits are divided by it; 0: greedy
  std::size_t top_k = 0;     ///< only the k most likely tokens; 0: all
  double top_p = 1.0;        ///< only the fewest tokens, most likely first, whose probability reaches p
  std::uint64_t seed = 0;
};

/// Draws tokens at random. The same options and logits give the same tokens on every machine.
class Sampler {
 public:
  /// @throws PreconditionError unless temperature >= 0 and 0 < top_p <= 1
  explicit Sampler(const SamplingOptions& options) : options_(options), random_(options.seed) {
    expects(options.temperature >= 0, "Sampler: the temperature is 0 or above");
    expects(options.top_p > 0 && options.top_p <= 1, "Sampler: top_p lies above 0 and at most at 1");
  }

  /// @throws PreconditionError if there are no logits
  [[nodiscard]] Token operator()(std::span<const float> logits) {
    if (options_.temperature == 0) return greedy(logits);
    expects(!logits.empty(), "Sampler: no logits");
    order_.resize(logits.size());
    std::iota(order_.begin(), order_.end(), Token{0});
    const auto likelier = [&](Token a, Token b) {
      const float x = logits[static_cast<std::size_t>(a)], y = logits[static_cast<std::size_t>(b)];
      return x > y || (x == y && a < b);
    };
    const std::size_t most = options_.top_k == 0 ? order_.size() : std::min(options_.top_k, order_.size());
    // Sorting is what costs; without a limit on the mass only membership matters.
    if (most < order_.size())
      std::partial_sort(order_.begin(), order_.begin() + static_cast<std::ptrdiff_t>(most), order_.end(), likelier);
    else if (options_.top_p < 1)
      std::sort(order_.begin(), order_.end(), likelier);
    order_.resize(most);

    const double top = logits[static_cast<std::size_t>(greedy(logits))];
    weights_.resize(most);
    for (std::size_t i = 0; i < most; ++i)
      weights_[i] = std::exp((logits[static_cast<std::size_t>(order_[i])] - top) / options_.temperature);
    double mass = std::accumulate(weights_.begin(), weights_.end(), 0.0);
    if (options_.top_p < 1) {
      const double enough = options_.top_p * mass;
      std::size_t kept = 0;
      for (mass = 0; kept < most && mass < enough; ++kept) mass += weights_[kept];
      weights_.resize(kept);
    }
    double left = static_cast<double>(random_() >> 11) * 0x1p-53 * mass;  // uniform in [0, mass)
    std::size_t drawn = 0;
    while (drawn + 1 < weights_.size() && left >= weights_[drawn]) left -= weights_[drawn++];
    return order_[drawn];
  }

 private:
  SamplingOptions options_;
  std::mt19937_64 random_;
  std::vector<Token> order_;
  std::vector<double> weights_;
};

}  // namespace krul
