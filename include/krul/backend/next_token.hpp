#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numbers>
#include <span>

#include "krul/core/error.hpp"
#include "krul/core/tokens.hpp"

namespace krul {

namespace detail {
/// e^x for x <= 0 to about 2^-51 of its value; what lies below e^-708 becomes e^-708. No branch and no call, so that
/// the compiler makes vectors of it.
[[nodiscard]] inline double exp_of_negative(double x) noexcept {
  x = x < -708.0 ? -708.0 : x;
  // x = k ln 2 + r with |r| <= ln(2) / 2; adding 1.5 * 2^52 leaves k in the low bits of the sum.
  constexpr double shift = 0x1.8p52;
  const double shifted = x * std::numbers::log2e + shift;
  const double k = shifted - shift;
  constexpr double ln2_high = 0x1.62e42feep-1;  // 32 bits, so that k * ln2_high is exact
  constexpr double ln2_low = 0x1.a39ef35793c76p-33;
  const double r = (x - k * ln2_high) - k * ln2_low;
  // Taylor to r^13: the first term left out is below 0.3466^14 / 14! < 2^-57.
  double sum = 1.0 / 6227020800.0;
  sum = sum * r + 1.0 / 479001600.0;
  sum = sum * r + 1.0 / 39916800.0;
  sum = sum * r + 1.0 / 3628800.0;
  sum = sum * r + 1.0 / 362880.0;
  sum = sum * r + 1.0 / 40320.0;
  sum = sum * r + 1.0 / 5040.0;
  sum = sum * r + 1.0 / 720.0;
  sum = sum * r + 1.0 / 120.0;
  sum = sum * r + 1.0 / 24.0;
  sum = sum * r + 1.0 / 6.0;
  sum = sum * r + 0.5;
  sum = sum * r + 1.0;
  sum = sum * r + 1.0;
  const auto power = (std::bit_cast<std::uint64_t>(shifted) + 1023U)
                     << 52;  // 2^k: the rest of `shifted` is shifted out
  return sum * std::bit_cast<double>(power);
}

/// Sum of term(i) for i in [0, count), in double and in eight lanes: the fixed order makes it reproducible.
template <class Term>
[[nodiscard]] double sum_in_lanes(std::size_t count, Term term) {
  constexpr std::size_t lanes = 8;
  double sums[lanes] = {};
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes)
    for (std::size_t lane = 0; lane < lanes; ++lane) sums[lane] += term(i + lane);
  for (; i < count; ++i) sums[0] += term(i);
  return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}
}  // namespace detail

/// The distribution of the next token that a row of logits stands for. Borrows the row.
class NextToken {
 public:
  /// @param logits  [vocabulary], kept by the caller
  /// @throws        PreconditionError if empty
  /// @complexity    one exponential a token of the vocabulary
  explicit NextToken(std::span<const float> logits) : logits_(logits) {
    expects(!logits.empty(), "NextToken: no logits");
    const auto finite = [](float logit) { return std::isfinite(logit); };
    finite_ = std::all_of(logits.begin(), logits.end(), finite);
    if (!finite_) return;
    top_ = static_cast<Token>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    largest_ = logits[static_cast<std::size_t>(top_)];
    const float* values = logits.data();
    weight_ = detail::sum_in_lanes(logits.size(), [values, largest = largest_](std::size_t i) {
      return detail::exp_of_negative(static_cast<double>(values[i]) - largest);
    });
  }

  /// False if a logit is infinite or NaN: the forward pass is broken.
  [[nodiscard]] bool finite() const noexcept { return finite_; }
  /// The most likely token; the first of equals.
  [[nodiscard]] Token top() const noexcept { return top_; }
  /// Natural logarithm of the probability of `token`; -infinity if the row is not finite.
  /// @throws PreconditionError if the token is not in the vocabulary
  [[nodiscard]] double log_probability(Token token) const {
    expects(token >= 0 && static_cast<std::size_t>(token) < logits_.size(), "NextToken: token outside the vocabulary");
    if (!finite_) return -std::numeric_limits<double>::infinity();
    return (static_cast<double>(logits_[static_cast<std::size_t>(token)]) - largest_) - std::log(weight_);
  }

  /// KL(this || candidate) in nats, >= 0; infinite if the candidate is not finite.
  /// @throws PreconditionError if the vocabularies differ in size or this row is not finite
  [[nodiscard]] double divergence_from(const NextToken& candidate) const {
    expects(logits_.size() == candidate.logits_.size(), "NextToken: vocabularies differ in size");
    expects(finite_, "NextToken: the reference holds a logit that is not finite");
    if (!candidate.finite_) return std::numeric_limits<double>::infinity();
    const float* mine = logits_.data();
    const float* theirs = candidate.logits_.data();
    const double weighted = detail::sum_in_lanes(
        logits_.size(), [mine, theirs, largest = largest_, other = candidate.largest_](std::size_t i) {
          const double left = static_cast<double>(mine[i]) - largest;
          return detail::exp_of_negative(left) * (left - (static_cast<double>(theirs[i]) - other));
        });
    return std::max(0.0, weighted / weight_ + std::log(candidate.weight_ / weight_));
  }

 private:
  std::span<const float> logits_;
  bool finite_ = false;
  Token top_ = 0;
  double largest_ = 0;
  double weight_ = 1;  ///< sum of e^(logit - largest)
};

}  // namespace krul
