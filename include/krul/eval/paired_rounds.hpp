#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/core/clock.hpp"
#include "krul/core/error.hpp"
#include "krul/eval/machine_load.hpp"
#include "krul/eval/statistics.hpp"

namespace krul::eval {

/// One of the things to compare: does the work once and says what it took, in seconds or as a struct of figures.
template <class Figure = double>
struct Alternative {
  std::string name;
  std::function<Figure()> measure;
};

struct RoundsOptions {
  std::size_t clean_rounds = 7;      ///< how many must be clean; below 6 no 95 % interval exists
  std::size_t most_rounds = 40;      ///< after so many, clean or not, it ends as noisy
  std::size_t warm_up_rounds = 1;    ///< run first and forgotten
  double most_foreign_share = 0.03;  ///< of all processor time; a round with more is not clean
  double least_round_s = 0.5;        ///< shorter rounds run all alternatives again: load is only known to a clock tick
  double patience_s = std::numeric_limits<double>::infinity();  ///< after so long, warm-up included, no round is begun
};

/// How one alternative did against another.
struct Comparison {
  double median = 0;           ///< of the alternative, seconds where the figure is
  double baseline_median = 0;  ///< likewise
  PairedRatio ratio;           ///< alternative / baseline, round by round
};

/// True if the alternative is slower beyond doubt: the whole interval lies above 1.03 and the medians are more than 2
/// ms apart. "Never slower" fails only then, and not where too few rounds give no interval: they say nothing.
[[nodiscard]] inline bool clearly_slower(const Comparison& seconds) {
  return seconds.ratio.has_interval() && seconds.ratio.interval.low > 1.03 &&
         seconds.median - seconds.baseline_median > 0.002;
}

/// What was measured in the rounds that count.
template <class Figure = double>
struct RoundsReport {
  struct Round {
    double foreign_share = 0;
    std::vector<std::vector<Figure>> passes;  ///< [alternatives, passes of this round]
  };

  std::vector<std::string> names;  ///< [alternatives]
  std::vector<Round> rounds;
  std::size_t discarded = 0;  ///< rounds that were run and do not count
  bool noisy = false;         ///< one of `rounds` was not clean: too few were, so the quietest others count
  bool cut_short = false;     ///< patience ran out: there are fewer `rounds` than clean ones were asked for

  /// One value a round: the median over its passes.
  /// @param projection  a member of Figure, or a function of it, that gives a double
  /// @throws            PreconditionError if there is no such alternative
  template <class Projection = std::identity>
  [[nodiscard]] std::vector<double> values(std::size_t alternative, Projection projection = {}) const {
    expects(alternative < names.size(), "RoundsReport: no such alternative");
    std::vector<double> found;
    for (const auto& round : rounds) {
      std::vector<double> passes;
      for (const auto& figure : round.passes[alternative])
        passes.push_back(static_cast<double>(std::invoke(projection, figure)));
      found.push_back(median(passes));
    }
    return found;
  }

  template <class Projection = std::identity>
  [[nodiscard]] Comparison compare(std::size_t alternative, std::size_t baseline, Projection projection = {}) const {
    const auto mine = values(alternative, projection);
    const auto theirs = values(baseline, projection);
    return {median(mine), median(theirs), paired_ratio(mine, theirs)};
  }
};

/// Runs alternatives side by side, in an order that rotates from round to round, until enough rounds were quiet or
/// patience has run out. A round that was begun is never broken off.
template <Clock C, LoadProbe Probe>
class PairedRounds {
 public:
  /// @throws PreconditionError if no clean round is asked for, fewer rounds allowed than asked for, or patience is
  ///         negative or NaN
  PairedRounds(C clock, Probe probe, RoundsOptions options = {})
      : clock_(std::move(clock)), probe_(std::move(probe)), options_(options) {
    expects(options.clean_rounds > 0, "PairedRounds: at least one clean round");
    expects(options.most_rounds >= options.clean_rounds, "PairedRounds: most_rounds is below clean_rounds");
    expects(options.patience_s >= 0, "PairedRounds: patience cannot be negative");
  }

  /// Fails only if the load cannot be read. What a measurement throws passes through.
  /// @post   rounds.size() == clean_rounds, or cut_short and 1 <= rounds.size() < clean_rounds;
  ///         rounds + discarded <= most_rounds; noisy if one of them was not clean
  /// @throws PreconditionError if there is nothing to run
  template <class Figure>
  [[nodiscard]] Result<RoundsReport<Figure>> run(std::span<const Alternative<Figure>> alternatives) {
    expects(!alternatives.empty(), "PairedRounds: no alternatives");
    const TimePoint start = clock_.now();
    RoundsReport<Figure> report;
    for (const auto& alternative : alternatives) report.names.push_back(alternative.name);
    for (std::size_t round = 0; round < options_.warm_up_rounds; ++round)
      for (const auto& alternative : alternatives) static_cast<void>(alternative.measure());

    const auto clean = [&](const auto& round) { return round.foreign_share <= options_.most_foreign_share; };
    const auto patient = [&] { return seconds(clock_.now() - start) < options_.patience_s; };
    std::size_t clean_rounds = 0;
    while (clean_rounds < options_.clean_rounds && report.rounds.size() < options_.most_rounds &&
           (report.rounds.empty() || patient())) {
      auto round = run_round(alternatives, clean_rounds);
      if (!round) return propagate(round);
      if (clean(*round)) ++clean_rounds;
      report.rounds.push_back(std::move(*round));
    }

    std::stable_sort(report.rounds.begin(), report.rounds.end(), [&](const auto& a, const auto& b) {
      return clean(a) != clean(b) ? clean(a) : !clean(a) && a.foreign_share < b.foreign_share;
    });
    const std::size_t counted = std::min(report.rounds.size(), options_.clean_rounds);
    report.discarded = report.rounds.size() - counted;
    report.rounds.resize(counted);
    report.noisy = !clean(report.rounds.back());
    report.cut_short = counted < options_.clean_rounds;
    return report;
  }

  /// The same for measurements that throw what they fail with, as or_throw does.
  /// @return the first of these errors
  template <class Figure>
  [[nodiscard]] Result<RoundsReport<Figure>> try_run(std::span<const Alternative<Figure>> alternatives) {
    try {
      return run<Figure>(alternatives);
    } catch (const ResultError& failed) {
      return tl::unexpected(failed.error);
    }
  }

  /// What times the rounds.
  [[nodiscard]] const C& clock() const noexcept { return clock_; }

 private:
  template <class Figure>
  [[nodiscard]] Result<typename RoundsReport<Figure>::Round> run_round(
      std::span<const Alternative<Figure>> alternatives, std::size_t first) {
    typename RoundsReport<Figure>::Round round;
    round.passes.resize(alternatives.size());
    const auto before = probe_.sample();
    if (!before) return propagate(before);
    const TimePoint start = clock_.now();
    do {
      for (std::size_t i = 0; i < alternatives.size(); ++i) {
        const std::size_t turn = (first + i) % alternatives.size();
        round.passes[turn].push_back(alternatives[turn].measure());
      }
    } while (seconds(clock_.now() - start) < options_.least_round_s);
    const auto after = probe_.sample();
    if (!after) return propagate(after);
    round.foreign_share = foreign_share(*before, *after);
    return round;
  }

  C clock_;
  Probe probe_;
  RoundsOptions options_;
};

/// What `work` takes, in seconds: the body of most measurements.
template <Clock C, class Work>
[[nodiscard]] double seconds_taken(const C& clock, Work&& work) {
  const TimePoint start = clock.now();
  std::forward<Work>(work)();
  return seconds(clock.now() - start);
}

}  // namespace krul::eval
