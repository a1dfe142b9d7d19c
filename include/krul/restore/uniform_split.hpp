#pragma once

#include <optional>

#include "krul/restore/restore_policy.hpp"

namespace krul {

/// Recomputes the same front in every layer: partial recompute with loading by layer, the paper's strongest baseline.
class UniformSplit {
 public:
  /// Searches for its own best front by prediction, over all whole blocks and the whole history.
  UniformSplit() = default;
  /// @param ratio  recomputed share of the history
  /// @throws PreconditionError unless 0 <= ratio <= 1
  explicit UniformSplit(double ratio) : ratio_(ratio) {
    expects(ratio >= 0 && ratio <= 1, "UniformSplit: the recomputed share lies between 0 and 1");
  }

  [[nodiscard]] std::vector<std::size_t> prefix(const RestoreSizes& sizes, const Costs& costs) const {
    const auto everywhere = [&](std::size_t tokens) {
      return std::vector<std::size_t>(sizes.layers.size(), std::min(tokens, sizes.history));
    };
    if (ratio_) return everywhere(share_of_history(sizes, *ratio_));
    return soonest(sizes, costs, sizes.blocks() + 1, [&](std::size_t i) { return everywhere(i * sizes.block); });
  }

 private:
  std::optional<double> ratio_;
};
static_assert(RestorePolicy<UniformSplit>);

}  // namespace krul
