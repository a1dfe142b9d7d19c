#pragma once

#include "krul/restore/restore_policy.hpp"

namespace krul {

/// Loads nothing: the baseline of a machine without a store.
struct FullRecompute {
  static constexpr bool looks_at_costs = false;
  [[nodiscard]] std::vector<std::size_t> prefix(const RestoreSizes& sizes, const Costs&) const {
    return std::vector<std::size_t>(sizes.layers.size(), sizes.history);
  }
};
static_assert(RestorePolicy<FullRecompute>);

}  // namespace krul
