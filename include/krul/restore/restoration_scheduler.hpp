#pragma once

#include <utility>

#include "krul/restore/cautious.hpp"
#include "krul/restore/restore_policy.hpp"
#include "krul/restore/validate.hpp"

namespace krul {

/// Plans restores: which front of each layer is recomputed and which rest is loaded. Does none of it; see restore().
template <RestorePolicy Policy = DefaultPolicy>
class RestorationScheduler {
 public:
  explicit RestorationScheduler(Policy policy = {}) : policy_(std::move(policy)) {}

  [[nodiscard]] const Policy& policy() const noexcept { return policy_; }

  /// Pure: no input, no output, no clock; the same arguments give the same plan.
  /// @return the policy's proposal, cut down to the invariant of RestorePlan
  /// @throws PreconditionError if a cost is NaN, infinite or negative, the link's rate is not above zero, there is no
  ///         prompt, layer or block length, a layer does not describe every block, or the policy answers for another
  ///         number of layers
  /// @complexity the policy's; about 1 ms for 8,000 tokens in blocks of 64 and 30 layers under the default one
  /// @source Krul, arXiv:2507.08045, section 6.2; second-hand
  [[nodiscard]] RestorePlan plan(const RestoreSizes& sizes, const Costs& costs) const {
    expects_valid(costs);
    expects_valid(sizes);
    return {sizes.history, sizes.prompt, sizes.block, admissible(sizes, policy_.prefix(sizes, costs))};
  }

 private:
  [[no_unique_address]] Policy policy_;
};

}  // namespace krul
