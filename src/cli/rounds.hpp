#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include "krul/eval/paired_rounds.hpp"
#include "krul/eval/patience.hpp"
#include "tool.hpp"

namespace krul::cli {

/// --patience
struct PatienceOption {
  double limit_s = 0;  ///< seconds; what it is before the options are read is the default

  /// @return --patience
  CLI::Option* add_to(CLI::App& verb);
  [[nodiscard]] eval::Patience<> begin() const { return eval::Patience(limit_s); }
};

/// Defaults, in seconds: a quiet machine runs all rounds within them.
inline constexpr double bench_patience_s = 300, demo_patience_s = 90, calibration_patience_s = 60;

/// --rounds and --patience: how a measurement is repeated.
struct RoundsOption {
  std::size_t clean = 7;
  PatienceOption patience{bench_patience_s};

  /// Both, one behind the other.
  void add_to(CLI::App& verb);
  /// --rounds alone
  void add_count_to(CLI::App& verb);
  /// The harness's rules for so many clean rounds.
  /// @param patience_s  of this measurement, where there are several
  [[nodiscard]] eval::RoundsOptions with(double patience_s) const {
    return {.clean_rounds = clean, .most_rounds = std::max<std::size_t>(4 * clean, 12), .patience_s = patience_s};
  }
  [[nodiscard]] eval::RoundsOptions rules() const { return with(patience.limit_s); }
};

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

/// Rounds on this machine.
[[nodiscard]] inline auto rounds_here(const eval::RoundsOptions& options) {
  return eval::PairedRounds(SteadyClock{}, eval::MachineLoad{}, options);
}

/// Measures alternatives in rounds on this machine, and says as progress what is being measured.
/// @param what  is done to the alternatives, for people
/// @param note  is told of the rounds
template <class Figure>
[[nodiscard]] eval::RoundsReport<Figure> run_rounds(const Tool& tool, const std::string& what,
                                                    std::span<const eval::Alternative<Figure>> alternatives,
                                                    const eval::RoundsOptions& options, RoundsNote& note) {
  std::vector<eval::Alternative<Figure>> announced;
  for (const auto& alternative : alternatives)
    announced.push_back({alternative.name, [&] {
                           tool.progress(alternative.name.empty() ? what : what + ": " + alternative.name);
                           return alternative.measure();
                         }});
  auto report = unwrap(rounds_here(options).template run<Figure>(announced));
  note.add(report);
  tool.progress("");
  return report;
}

/// The same for one thing alone.
template <class Work, class Figure = std::invoke_result_t<Work&>>
[[nodiscard]] eval::RoundsReport<Figure> run_rounds_of(const Tool& tool, const std::string& what, Work&& work,
                                                       const eval::RoundsOptions& options, RoundsNote& note) {
  const eval::Alternative<Figure> alternative{"", std::forward<Work>(work)};
  return run_rounds(tool, what, std::span(&alternative, 1), options, note);
}

}  // namespace krul::cli
