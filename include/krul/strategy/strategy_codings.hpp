#pragma once

#include "krul/compress/coding_set.hpp"
#include "krul/strategy/needs.hpp"

namespace krul {

/// What rows of a strategy, and others, are decoded with.
/// @param others  whose profile counts where the strategy has none
[[nodiscard]] inline CodingSet with_codings_of(const Needs& needs, CodingSet others) {
  for (const SavePlan& coding : needs.codings) {
    if (coding.profile) others.set_profile(coding.profile);
    for (const AnyChunkCoder& coder : {coding.coding, coding.pair_coding})
      if (!krul_coding_number(coder.name())) others.add(coder);
  }
  return others;
}

/// The step of a strategy's profile where nothing was measured; 0 without a profile.
[[nodiscard]] inline StepScale nominal_step(const Needs& needs) {
  for (const SavePlan& coding : needs.codings)
    if (coding.profile) return coding.step;
  return {};
}

}  // namespace krul
