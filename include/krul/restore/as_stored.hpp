#pragma once

#include "krul/restore/restore_policy.hpp"

namespace krul {

/// Loads whatever is stored and recomputes the rest: the split that was chosen when the conversation was saved, as the
/// paper does it.
/// @source Krul, arXiv:2507.08045, section 6.2: the plan is fixed when the conversation is stored; second-hand
struct AsStored {
  static constexpr bool looks_at_costs = false;
  [[nodiscard]] std::vector<std::size_t> prefix(const RestoreSizes& sizes, const Costs&) const {
    return admissible(sizes, std::vector<std::size_t>(sizes.layers.size(), 0));
  }
};
static_assert(RestorePolicy<AsStored>);

}  // namespace krul
