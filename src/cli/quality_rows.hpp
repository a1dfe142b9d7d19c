#pragma once

#include <cmath>
#include <span>
#include <vector>

#include "krul/eval/quality.hpp"
#include "tool.hpp"

namespace krul::cli {

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
