#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "krul/conversation/detail/restore_planner.hpp"
#include "krul/core/error.hpp"
#include "krul/store/manifest.hpp"
#include "krul/strategy/needs.hpp"

namespace krul::detail {

/// What RestoreReport::notes says of a turn.
/// @param needs  of the strategy
/// @param saved  what is saved at the end of the restore
/// @param read   whether anything was read from the store
[[nodiscard]] inline std::vector<std::string> restore_notes(const Needs& needs, const RestorePlanner& planner,
                                                            const std::optional<Costs>& costs, const Manifest& saved,
                                                            bool read) {
  std::vector<std::string> notes;
  if (read && !planner.plans(costs))
    notes.push_back(
        "all that is stored was read: the restore policy decides from what restores cost here, which is not known; "
        "give the options costs (a policy of your own that needs none says so by looks_at_costs = false)");
  if (needs.profile_is_missing)
    notes.push_back("rows are coded layer by layer: there is no profile of the model; calibrate one");
  const bool has_profile = std::ranges::any_of(needs.codings, [](const auto& plan) { return plan.profile != nullptr; });
  if (has_profile && !saved.plans.empty()) {
    const SavePlanRecord& last = saved.plans.back();
    if (last.profile.empty() && !last.settings.empty())
      notes.push_back("rows were stored as " + last.codec + " although there is a profile: " + last.settings);
  }
  return notes;
}

}  // namespace krul::detail
