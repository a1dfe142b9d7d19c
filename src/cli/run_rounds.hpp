#pragma once

#include <span>
#include <string>
#include <vector>

#include "krul/eval/paired_rounds.hpp"
#include "tool.hpp"

namespace krul::cli {

/// Rounds on this machine.
[[nodiscard]] inline auto rounds_here(const eval::RoundsOptions& options) {
  return eval::PairedRounds(SteadyClock{}, eval::MachineLoad{}, options);
}

/// Measures alternatives in rounds on this machine, and says as progress what is being measured.
/// @param what  is done to the alternatives, for people
template <class Figure>
[[nodiscard]] eval::RoundsReport<Figure> run_rounds(const Tool& tool, const std::string& what,
                                                    std::span<const eval::Alternative<Figure>> alternatives,
                                                    const eval::RoundsOptions& options) {
  std::vector<eval::Alternative<Figure>> announced;
  for (const auto& alternative : alternatives)
    announced.push_back({alternative.name, [&] {
                           tool.progress(alternative.name.empty() ? what : what + ": " + alternative.name);
                           return alternative.measure();
                         }});
  return unwrap(rounds_here(options).template run<Figure>(announced));
}

}  // namespace krul::cli
