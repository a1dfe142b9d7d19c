#pragma once

#include <string>

#include "krul/eval/paired_rounds.hpp"
#include "tool.hpp"

namespace krul::cli {

/// "7 clean", "3 disturbed": the rounds that a line of a table comes from.
[[nodiscard]] inline std::string mark_of_rounds(std::size_t rounds, bool noisy) {
  return std::to_string(rounds) + (noisy ? " disturbed" : " clean");
}

/// What is said of all rounds that some figures come from.
struct RoundsNote {
  bool disturbed = false;  ///< rounds that were not clean count, somewhere
  bool cut_short = false;  ///< patience ran out before there were as many as were asked for, somewhere

  void add(const RoundsNote& other) {
    disturbed = disturbed || other.disturbed;
    cut_short = cut_short || other.cut_short;
  }
  template <class Figure>
  void add(const eval::RoundsReport<Figure>& report) {
    add({report.noisy, report.cut_short});
  }

  /// Lines to stand beneath the figures; none if all rounds were as they were asked for.
  [[nodiscard]] std::string text() const;
  /// describe_run, with the same in it.
  [[nodiscard]] Json run(const LoadedModel& model) const;
};

}  // namespace krul::cli
