#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "krul/backend/next_token.hpp"
#include "krul/core/error.hpp"
#include "krul/core/tokens.hpp"
#include "krul/eval/mean_interval.hpp"
#include "krul/eval/statistics.hpp"

namespace krul::eval {

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

/// Compares rows of next-token logits, [tokens, vocabulary], each with the token that came after; the last row is
/// followed by none.
/// @param alone  the same without a history; may be empty
[[nodiscard]] inline std::vector<TokenQuality> compare_rows(std::span<const float> exact,
                                                            std::span<const float> candidate,
                                                            std::span<const Token> tokens,
                                                            std::span<const float> alone = {}) {
  const std::size_t vocabulary = exact.size() / tokens.size();
  std::vector<TokenQuality> found;
  for (std::size_t row = 0; row + 1 < tokens.size(); ++row) {
    const auto at = [&](std::span<const float> logits) {
      return NextToken(logits.subspan(row * vocabulary, vocabulary));
    };
    found.push_back(compare(at(exact), at(candidate), tokens[row + 1]));
    if (!alone.empty()) found.back().nll_without_history = -at(alone).log_probability(tokens[row + 1]);
  }
  return found;
}

/// Mean divergence of one conversation's tokens, nats.
/// @throws PreconditionError if there is none
[[nodiscard]] inline double mean_kl(std::span<const TokenQuality> conversation) {
  expects(!conversation.empty(), "mean_kl: a conversation without tokens");
  double sum = 0;
  for (const auto& token : conversation) sum += token.kl;
  return sum / static_cast<double>(conversation.size());
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
    for (const auto& token : conversation) {
      kl_.push_back(token.kl);
      nll_ += token.nll;
      nll_exact_ += token.nll_exact;
      same_top_ += token.same_top ? 1 : 0;
      if (token.nll_without_history) {
        nll_without_ += *token.nll_without_history;
        ++with_baseline_;
      }
    }
    means_.push_back(mean_kl(conversation));
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
