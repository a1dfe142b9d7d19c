#pragma once

#include "krul/compress/coding_numbers.hpp"
#include "krul/compress/coding_set.hpp"
#include "krul/core/error.hpp"
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

/// invalid_argument if a plan is coded by what no restore could decode.
[[nodiscard]] inline Status can_be_decoded(const SavePlan& plan, const CodingSet& codings) {
  for (const std::string& coder : plan.record().coders)
    if (!codings.has(coder))
      return fail(ErrorCode::invalid_argument, "strategy " + plan.strategy + " plans a save by coder \"" + coder +
                                                   "\", which is not among the codings of its needs(): name it there");
  return {};
}

/// The step of a strategy's profile where nothing was measured; 0 without a profile.
[[nodiscard]] inline StepScale nominal_step(const Needs& needs) {
  for (const SavePlan& coding : needs.codings)
    if (coding.profile) return coding.step;
  return {};
}

}  // namespace krul
