#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "krul/compress/coding_numbers.hpp"
#include "krul/core/costs.hpp"
#include "krul/strategy/fixed_pairs.hpp"
#include "krul/strategy/needs.hpp"
#include "krul/strategy/strategy_selector.hpp"

namespace krul {

/// A coding whose decoding is measured, and what it is called among the measurements.
struct NamedCoding {
  std::string name;
  SavePlan plan;
};

/// Seconds that a stored row of one layer takes to be decoded, by the coding's name.
using DecodingTimes = std::map<std::string, double>;

/// What a profile's coding is called.
[[nodiscard]] inline std::string joint_coding_name(const SavePlan& plan) {
  return std::string(profile_prefix) + plan.profile->hash() + " step " + std::to_string(plan.step.code);
}

/// What has to be measured before the costs of a strategy's restores are known: each coding by itself, over all layers.
/// @param layers  L of the model
[[nodiscard]] inline std::vector<NamedCoding> codings_to_measure(const Needs& needs, std::size_t layers) {
  std::vector<NamedCoding> found;
  for (const SavePlan& coding : needs.codings) {
    if (coding.profile) {
      found.push_back({joint_coding_name(coding), coding});
      continue;
    }
    SavePlan single;
    single.coding = coding.coding;
    found.push_back({single.coding.name(), single});
    if (coding.pair_coding.layers() != 2) continue;
    SavePlan pairs = coding;
    for (std::size_t layer = 0; layer + 1 < layers; layer += 2) pairs.pairs.push_back({layer, layer + 1});
    found.push_back({pairs.pair_coding.name(), pairs});
  }
  return found;
}

/// The costs of a strategy's restores: those of the layers, and what its codings take. What was not measured counts as
/// nothing. Of paired layers it is known how many there will be, not yet which.
/// @param layers  L of the model
[[nodiscard]] inline LayerCosts with_decoding(LayerCosts costs, const DecodingTimes& times, const Needs& needs,
                                              std::size_t layers) {
  const auto time_of = [&](const std::string& name) {
    const auto found = times.find(name);
    return found == times.end() ? 0.0 : found->second;
  };
  bool has_plain = false;
  for (const SavePlan& coding : needs.codings) {
    if (coding.profile) {
      costs.joint_row_s = time_of(joint_coding_name(coding));
    } else if (!std::exchange(has_plain, true)) {
      costs.decode_row_s = time_of(coding.coding.name());
      if (coding.pair_coding.layers() != 2) continue;
      const auto paired = 2 * static_cast<double>(StrategySelector<NoSharing>::pairs_for(layers));
      costs.decode_row_s +=
          paired / static_cast<double>(layers) * (time_of(coding.pair_coding.name()) - costs.decode_row_s);
    }
  }
  return costs;
}

}  // namespace krul
