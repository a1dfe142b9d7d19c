#pragma once

#include <cmath>
#include <span>
#include <vector>

#include "krul/eval/quality.hpp"
#include "tool.hpp"

namespace krul::cli {

/// Compares rows of next-token logits, [tokens, vocabulary], each with the token that came after; the last row is
/// followed by none.
/// @param alone  the same without a history; may be empty
[[nodiscard]] inline std::vector<eval::TokenQuality> compare_rows(std::span<const float> exact,
                                                                  std::span<const float> candidate,
                                                                  std::span<const Token> tokens,
                                                                  std::span<const float> alone = {}) {
  const std::size_t vocabulary = exact.size() / tokens.size();
  std::vector<eval::TokenQuality> found;
  for (std::size_t row = 0; row + 1 < tokens.size(); ++row) {
    const auto at = [&](std::span<const float> logits) {
      return eval::NextToken(logits.subspan(row * vocabulary, vocabulary));
    };
    found.push_back(eval::compare(at(exact), at(candidate), tokens[row + 1]));
    if (!alone.empty()) found.back().nll_without_history = -at(alone).log_probability(tokens[row + 1]);
  }
  return found;
}

/// JSON has no infinity.
[[nodiscard]] inline Json finite_or_null(double value) {
  return std::isfinite(value) ? Json(value) : Json(nullptr);
}

/// How far predictions are from the exact ones.
[[nodiscard]] inline Json quality_figures(const eval::QualityTotals& totals) {
  const auto quality = totals.summary();
  return {{"delta_nll", quality.delta_nll},
          {"kl", quality.kl},
          {"kl_p95", quality.kl_p95},
          {"kl_worst", quality.kl_worst},
          {"kl_low", finite_or_null(quality.kl_interval.low)},
          {"kl_high", finite_or_null(quality.kl_interval.high)},
          {"top1", quality.top1},
          {"conversations", quality.conversations},
          {"tokens", quality.tokens}};
}

}  // namespace krul::cli
