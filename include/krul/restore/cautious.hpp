#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "krul/restore/optimal.hpp"
#include "krul/restore/restore_policy.hpp"

namespace krul {

/// Asks a policy as if computing cost more than was measured.
///
/// What a link takes hardly varies, what computing takes does: with other work, with heat, and with what the caches
/// hold. Restores between other work took 1.0 to 1.44 times what recompute had cost where it was measured, 1.16 in the
/// middle. A front that is too short costs what little is left to gain near the balance; one that is too long costs all
/// that it takes.
/// @source ours
template <RestorePolicy Policy>
class Cautious {
 public:
  Cautious() = default;
  /// @param more  of the measured cost, > 0
  explicit Cautious(Policy policy, double more = usual) : policy_(std::move(policy)), more_(more) {}

  [[nodiscard]] std::vector<std::size_t> prefix(const RestoreSizes& sizes, const Costs& costs) const {
    return policy_.prefix(sizes, cautious(costs));
  }
  /// The costs that the policy is asked with.
  [[nodiscard]] Costs cautious(Costs costs) const noexcept {
    for (double* cost : {&costs.layer.call_s, &costs.layer.project_row_s, &costs.layer.finish_row_s,
                         &costs.layer.attend_pair_s, &costs.layer.attend_key_s})
      *cost *= more_;
    return costs;
  }

 private:
  static constexpr double usual = 1.2;
  Policy policy_;
  double more_ = usual;
};

/// Never predicted to be slower than recomputing or loading everything.
using DefaultPolicy = BestOf<Cautious<Optimal>, FullRecompute, FullLoad>;
static_assert(RestorePolicy<DefaultPolicy>);

}  // namespace krul
