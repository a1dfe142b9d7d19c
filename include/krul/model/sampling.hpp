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

/// How the next token is chosen from its logits.
struct SamplingOptions {
  double temperature = 0;  ///< 0: always the most likely token
  std::size_t top_k = 0;   ///< only the so many most likely tokens; 0: all
  double top_p = 1;        ///< only the most likely tokens that together reach this probability, in (0, 1]
  std::uint64_t seed = 0;
};

/// The most likely token, the first of equals.
/// @param logits  [vocabulary]
/// @throws PreconditionError if there are none
[[nodiscard]] inline Token greedy(std::span<const float> logits) {
  expects(!logits.empty(), "greedy: no logits");
  return static_cast<Token>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

/// Chooses tokens; the same options and logits give the same tokens on every machine.
class Sampler {
 public:
  /// @throws PreconditionError if the temperature is negative or not finite, or top_p is outside (0, 1]
  explicit Sampler(SamplingOptions options) : options_(options), random_(options.seed) {
    expects(std::isfinite(options.temperature) && options.temperature >= 0,
            "Sampler: the temperature must be finite and not negative");
    expects(options.top_p > 0 && options.top_p <= 1, "Sampler: top_p must lie in (0, 1]");
  }

  /// @param logits  [vocabulary]
  /// @complexity    O(vocabulary log top_k) unless greedy
  [[nodiscard]] Token operator()(std::span<const float> logits) {
    if (options_.temperature == 0) return greedy(logits);
    expects(!logits.empty(), "Sampler: no logits");
    const auto likelier = [&](std::size_t a, std::size_t b) {
      return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
    };
    const std::size_t kept = options_.top_k == 0 ? logits.size() : std::min(options_.top_k, logits.size());
    std::vector<std::size_t> order(kept);  // a heap, the least likely in front
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::make_heap(order.begin(), order.end(), likelier);
    for (std::size_t i = kept; i < logits.size(); ++i) {
      if (logits[i] <= logits[order.front()]) continue;
      std::pop_heap(order.begin(), order.end(), likelier);
      order.back() = i;
      std::push_heap(order.begin(), order.end(), likelier);
    }
    std::sort_heap(order.begin(), order.end(), likelier);
    std::vector<double> weights(kept);
    for (std::size_t i = 0; i < kept; ++i)
      weights[i] = std::exp((static_cast<double>(logits[order[i]]) - logits[order[0]]) / options_.temperature);
    const double all = std::accumulate(weights.begin(), weights.end(), 0.0);
    double nucleus = 0;
    std::size_t last = 0;
    do nucleus += weights[last];
    while (++last < kept && nucleus < options_.top_p * all);
    // 53 random bits to a double in [0, 1): std::uniform_real_distribution differs from library to library.
    double point = static_cast<double>(random_() >> 11) * 0x1p-53 * nucleus;
    for (std::size_t i = 0; i < last; ++i) {
      if (point < weights[i]) return static_cast<Token>(order[i]);
      point -= weights[i];
    }
    return static_cast<Token>(order[last - 1]);
  }

 private:
  SamplingOptions options_;
  std::mt19937_64 random_;
};

}  // namespace krul
