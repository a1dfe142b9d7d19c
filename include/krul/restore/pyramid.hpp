#pragma once

#include <optional>

#include "krul/restore/restore_policy.hpp"

namespace krul {

/// Recomputes less with every layer: the recomputed share falls linearly with depth, so that the deep layers' loads are
/// ready when the cores get there.
///
/// With a mean share r <= 1/2 it falls from 2r in the first layer to 0 in the last; for larger r from 1 to 2r - 1. So
/// r = 0 is a full load and r = 1 a full recompute. Each layer's share is rounded to whole blocks by share_of_history.
/// @source Krul, arXiv:2507.08045, section 6.2; second-hand. Reported is that the share falls linearly; slope, rounding
///         and the family above 1/2 are ours.
class Pyramid {
 public:
  /// Searches for its own best mean share by prediction; from one member to the next layer 0 moves by half a block or
  /// more, up to r = 1.
  Pyramid() = default;
  /// @param ratio  r, recomputed share of the history in the mean over the layers
  /// @throws PreconditionError unless 0 <= ratio <= 1
  explicit Pyramid(double ratio) : ratio_(ratio) {
    expects(ratio >= 0 && ratio <= 1, "Pyramid: the recomputed share lies between 0 and 1");
  }

  [[nodiscard]] std::vector<std::size_t> prefix(const RestoreSizes& sizes, const Costs& costs) const {
    if (ratio_) return slope(sizes, *ratio_);
    const std::size_t steps = 2 * sizes.blocks();
    return soonest(sizes, costs, steps + 1, [&](std::size_t i) {
      const double ratio = static_cast<double>(i * sizes.block) / (2 * static_cast<double>(sizes.history));
      return slope(sizes, sizes.history == 0 ? 0 : std::min(ratio, 1.0));
    });
  }

 private:
  static std::vector<std::size_t> slope(const RestoreSizes& sizes, double ratio) {
    const std::size_t layers = sizes.layers.size();
    const double first = std::min(2 * ratio, 1.0), last = std::max(2 * ratio - 1, 0.0);
    std::vector<std::size_t> prefix(layers);
    for (std::size_t layer = 0; layer < layers; ++layer) {
      const double depth = layers > 1 ? static_cast<double>(layer) / static_cast<double>(layers - 1) : 0.5;
      prefix[layer] = share_of_history(sizes, first + (last - first) * depth);
    }
    return prefix;
  }

  std::optional<double> ratio_;
};
static_assert(RestorePolicy<Pyramid>);

}  // namespace krul
