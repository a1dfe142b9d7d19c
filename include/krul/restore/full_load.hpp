#pragma once

#include "krul/restore/restore_policy.hpp"

namespace krul {

/// Recomputes nothing: the baseline of a store without a scheduler.
struct FullLoad {
  static constexpr bool looks_at_costs = false;
  [[nodiscard]] std::vector<std::size_t> prefix(const RestoreSizes& sizes, const Costs&) const {
    return std::vector<std::size_t>(sizes.layers.size(), 0);
  }
};
static_assert(RestorePolicy<FullLoad>);

}  // namespace krul
