#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numbers>
#include <optional>
#include <span>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/core/tokens.hpp"
#include "krul/eval/mean_interval.hpp"
#include "krul/eval/statistics.hpp"

namespace krul::eval {

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

/// What restoring from another state did to the prediction of one token.
struct TokenQuality {
  double kl = 0;         ///< KL(exact || candidate), nats
  double nll = 0;        ///< -log of the probability of the token that came, nats
  double nll_exact = 0;  ///< likewise with the exact state
  bool same_top = true;  ///< both find the same token most likely
  std::optional<double> nll_without_history;
};

/// @param exact      what the exact state predicts
/// @param candidate  what the state under test predicts
/// @param came       the token that came
/// @throws           PreconditionError as NextToken::divergence_from, or if `came` is outside the vocabulary
[[nodiscard]] inline TokenQuality compare(const NextToken& exact, const NextToken& candidate, Token came) {
  return {exact.divergence_from(candidate), -candidate.log_probability(came), -exact.log_probability(came),
          candidate.finite() && exact.top() == candidate.top(), std::nullopt};
}

/// One strategy over a set of conversations; means are over tokens.
struct QualitySummary {
  std::size_t conversations = 0;
  std::size_t tokens = 0;
  double delta_nll = 0;  ///< mean NLL minus mean NLL with the exact state, nats a token
  double kl = 0;         ///< mean, nats
  double kl_p95 = 0;     ///< 95 % of the tokens lie below
  double kl_worst = 0;   ///< largest mean of one conversation
  /// A quarter, half and three quarters of the conversations have a smaller mean.
  std::array<double, 3> kl_quartiles{};
  Interval kl_interval;  ///< 95 %: of the mean over conversations of their means
  double top1 = 0;       ///< share of tokens with the same most likely token
  /// (NLL without history - NLL) / (NLL without history - NLL with the exact state): 1 is all of the benefit. None if
  /// not every token says what it costs without history, or the history was of no use.
  std::optional<double> history_benefit;
};

/// Collects the tokens of one strategy, conversation by conversation.
class QualityTotals {
 public:
  /// @param conversation  [tokens] of one conversation
  /// @throws              PreconditionError if empty
  void add(std::span<const TokenQuality> conversation) {
    expects(!conversation.empty(), "QualityTotals: a conversation without tokens");
    double sum = 0;
    for (const auto& token : conversation) {
      kl_.push_back(token.kl);
      sum += token.kl;
      nll_ += token.nll;
      nll_exact_ += token.nll_exact;
      same_top_ += token.same_top ? 1 : 0;
      if (token.nll_without_history) {
        nll_without_ += *token.nll_without_history;
        ++with_baseline_;
      }
    }
    means_.push_back(sum / static_cast<double>(conversation.size()));
  }

  /// [conversations] mean KL of each, in the order they were added
  [[nodiscard]] const std::vector<double>& conversation_means() const noexcept { return means_; }

  /// @throws PreconditionError if nothing was added
  [[nodiscard]] QualitySummary summary() const {
    expects(!kl_.empty(), "QualityTotals: nothing was added");
    const auto tokens = static_cast<double>(kl_.size());
    QualitySummary summary;
    summary.conversations = means_.size();
    summary.tokens = kl_.size();
    summary.delta_nll = (nll_ - nll_exact_) / tokens;
    summary.kl = mean(kl_);
    summary.kl_p95 = quantile(kl_, 0.95);
    summary.kl_worst = quantile(means_, 1);
    summary.kl_quartiles = {quantile(means_, 0.25), quantile(means_, 0.5), quantile(means_, 0.75)};
    summary.kl_interval = mean_interval(means_);
    summary.top1 = static_cast<double>(same_top_) / tokens;
    if (with_baseline_ == kl_.size() && nll_without_ > nll_exact_)
      summary.history_benefit = (nll_without_ - nll_) / (nll_without_ - nll_exact_);
    return summary;
  }

 private:
  std::vector<double> kl_;
  std::vector<double> means_;
  double nll_ = 0;
  double nll_exact_ = 0;
  double nll_without_ = 0;
  std::size_t same_top_ = 0;
  std::size_t with_baseline_ = 0;
};

/// Index of the first token where two texts differ; the length of the shorter where it is the beginning of the other;
/// none if they are equal.
[[nodiscard]] inline std::optional<std::size_t> first_difference(std::span<const Token> a, std::span<const Token> b) {
  const auto [left, right] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  if (left == a.end() && right == b.end()) return std::nullopt;
  return static_cast<std::size_t>(left - a.begin());
}

}  // namespace krul::eval
