#include "krul/eval/paired_rounds.hpp"

#include <doctest/doctest.h>

#include <deque>
#include <limits>
#include <stdexcept>

namespace {
using namespace krul::eval;
using krul::duration_of;
using krul::ErrorCode;
using krul::ManualClock;
using krul::PreconditionError;

/// Says that others took the given share of each round, then none.
class ScriptedProbe {
 public:
  explicit ScriptedProbe(std::deque<double> shares = {}) : shares_(std::move(shares)) {}
  krul::Result<LoadSample> sample() {
    if (inside_) {
      const double share = shares_.empty() ? 0 : shares_.front();
      if (!shares_.empty()) shares_.pop_front();
      if (share < 0) return krul::fail(ErrorCode::io, "no load");
      now_.machine.total += 1000;
      now_.machine.busy += static_cast<std::uint64_t>(share * 1000 + 0.5);
    }
    inside_ = !inside_;
    return now_;
  }

 private:
  std::deque<double> shares_;
  LoadSample now_;
  bool inside_ = false;
};
static_assert(LoadProbe<ScriptedProbe>);

struct NoProbe {
  double sample() { return 0; }
};
static_assert(!LoadProbe<NoProbe>);

constexpr RoundsOptions quick = {.clean_rounds = 3, .most_rounds = 5, .warm_up_rounds = 0, .least_round_s = 0};

TEST_CASE("alternatives take turns at going first") {
  std::string order;
  const std::vector<Alternative<>> alternatives = {{"a", [&] { return order += 'a', 1.0; }},
                                                   {"b", [&] { return order += 'b', 2.0; }},
                                                   {"c", [&] { return order += 'c', 4.0; }}};
  auto options = quick;
  options.warm_up_rounds = 1;
  PairedRounds rounds(ManualClock{}, ScriptedProbe{}, options);
  const auto report = rounds.run<double>(alternatives).value();
  CHECK(order ==
        "abc"
        "abc"
        "bca"
        "cab");
  CHECK(report.names == std::vector<std::string>{"a", "b", "c"});
  CHECK(report.rounds.size() == 3);
  CHECK(report.discarded == 0);
  CHECK_FALSE(report.noisy);
  CHECK_FALSE(report.cut_short);
  CHECK(report.values(1) == std::vector<double>{2, 2, 2});
  const auto comparison = report.compare(2, 1);
  CHECK(comparison.median == 4);
  CHECK(comparison.baseline_median == 2);
  CHECK(comparison.ratio.median == 2);
}

TEST_CASE("a loaded round is discarded and repeated") {
  int call = 0;
  const std::vector<Alternative<>> alternatives = {{"a", [&] { return static_cast<double>(++call); }}};
  PairedRounds rounds(ManualClock{}, ScriptedProbe{{0.0, 0.031, 0.03, 0.5}}, quick);
  const auto report = rounds.run<double>(alternatives).value();
  CHECK(report.values(0) == std::vector<double>{1, 3, 5});
  CHECK(report.discarded == 2);
  CHECK_FALSE(report.noisy);
}

TEST_CASE("where it never gets quiet, the quietest rounds are given and marked") {
  int call = 0;
  const std::vector<Alternative<>> alternatives = {{"a", [&] { return static_cast<double>(++call); }}};
  PairedRounds rounds(ManualClock{}, ScriptedProbe{{0.5, 0.3, 0.01, 0.4, 0.2, 0.0}}, quick);
  const auto report = rounds.run<double>(alternatives).value();
  CHECK(report.noisy);
  CHECK(report.discarded == 2);
  CHECK(report.values(0) == std::vector<double>{3, 5, 2});
  CHECK(call == 5);
}

TEST_CASE("short rounds are filled up, and each counts with its median pass") {
  const ManualClock clock;
  int call = 0;
  const std::vector<Alternative<>> alternatives = {{"a", [&] {
                                                      clock.advance(duration_of(0.1));
                                                      return ++call % 5 == 0 ? 100.0 : 1.0;  // one outlier in five
                                                    }}};
  auto options = quick;
  options.least_round_s = 0.45;
  PairedRounds rounds(clock, ScriptedProbe{}, options);
  const auto report = rounds.run<double>(alternatives).value();
  CHECK(call == 15);
  CHECK(report.rounds[0].passes[0].size() == 5);
  CHECK(report.values(0) == std::vector<double>{1, 1, 1});
}

/// Rounds of ten seconds each, numbered; on a clock that moves only with them.
RoundsReport<double> rounds_of_ten_seconds(std::deque<double> foreign_shares, RoundsOptions options) {
  const ManualClock clock;
  clock.advance(duration_of(1000));  // patience counts from the beginning of the run
  int call = 0;
  const std::vector<Alternative<>> alternatives = {
      {"a", [&] { return clock.advance(duration_of(10)), static_cast<double>(++call); }}};
  return PairedRounds(clock, ScriptedProbe{std::move(foreign_shares)}, options).run<double>(alternatives).value();
}

TEST_CASE("when patience runs out, the best rounds there are count and are marked") {
  auto options = quick;
  options.patience_s = 40;
  const auto report = rounds_of_ten_seconds({0.5, 0.0, 0.4, 0.3, 0.0}, options);
  CHECK(report.values(0) == std::vector<double>{2, 4, 3});  // the fifth, a clean one, is not waited for
  CHECK(report.noisy);
  CHECK_FALSE(report.cut_short);
  CHECK(report.discarded == 1);
}

TEST_CASE("patience may end before there are as many rounds as were asked for") {
  auto options = quick;
  options.patience_s = 15;
  const auto disturbed = rounds_of_ten_seconds({0.5, 0.2}, options);
  CHECK(disturbed.values(0) == std::vector<double>{2, 1});
  CHECK(disturbed.discarded == 0);
  CHECK(disturbed.noisy);
  CHECK(disturbed.cut_short);
  const auto clean = rounds_of_ten_seconds({}, options);
  CHECK(clean.values(0) == std::vector<double>{1, 2});
  CHECK_FALSE(clean.noisy);
  CHECK(clean.cut_short);
}

TEST_CASE("without any patience one round is run, after the warm-up") {
  auto options = quick;
  options.patience_s = 0;
  CHECK(rounds_of_ten_seconds({}, options).values(0) == std::vector<double>{1});
  options.warm_up_rounds = 1;
  CHECK(rounds_of_ten_seconds({0.5}, options).values(0) == std::vector<double>{2});
  options.patience_s = 25;
  CHECK(rounds_of_ten_seconds({}, options).values(0) == std::vector<double>{2, 3});  // the warm-up took ten of them
}

TEST_CASE("patience that lasts changes nothing") {
  auto options = quick;
  options.patience_s = 30.1;
  const auto report = rounds_of_ten_seconds({0.0, 0.5, 0.0, 0.0}, options);
  CHECK(report.values(0) == std::vector<double>{1, 3, 4});
  CHECK_FALSE(report.noisy);
  CHECK_FALSE(report.cut_short);
  CHECK(report.discarded == 1);
}

TEST_CASE("figures can be structs") {
  struct Figures {
    double ttft_s;
    int bytes;
  };
  const std::vector<Alternative<Figures>> alternatives = {{"a",
                                                           [] {
                                                             return Figures{0.5, 10};
                                                           }},
                                                          {"b", [] {
                                                             return Figures{0.25, 40};
                                                           }}};
  PairedRounds rounds(ManualClock{}, ScriptedProbe{}, quick);
  const auto report = rounds.run<Figures>(alternatives).value();
  CHECK(report.compare(0, 1, &Figures::ttft_s).ratio.median == 2);
  CHECK(report.compare(0, 1, [](const Figures& figures) { return figures.bytes; }).ratio.median == 0.25);
  CHECK_THROWS_AS(static_cast<void>(report.values(2, &Figures::ttft_s)), PreconditionError);
}

TEST_CASE("clearly slower: the whole interval above 1.03, and more than 2 ms") {
  const auto against = [](double median, double baseline, double low) {
    return clearly_slower({median, baseline, {median / baseline, {low, 2, 0.98}}});
  };
  CHECK(against(1.1, 1.0, 1.04));
  CHECK_FALSE(against(1.1, 1.0, 1.03));        // the interval reaches down
  CHECK_FALSE(against(0.0110, 0.0100, 1.04));  // 1 ms
  CHECK(against(0.0121, 0.0100, 1.04));        // 2.1 ms
  CHECK_FALSE(against(0.9, 1.0, 0.8));
  CHECK_FALSE(clearly_slower({2, 1, {2, {1.9, 2.1, 0.75}}}));  // too few rounds for an interval
}

TEST_CASE("what goes wrong comes through") {
  const std::vector<Alternative<>> fine = {{"a", [] { return 1.0; }}};
  const std::vector<Alternative<>> broken = {{"a", []() -> double { throw std::runtime_error("broken"); }}};
  PairedRounds blind(ManualClock{}, ScriptedProbe{{0.0, -1.0}}, quick);
  CHECK(blind.run<double>(fine).error().code == ErrorCode::io);
  PairedRounds rounds(ManualClock{}, ScriptedProbe{}, quick);
  CHECK_THROWS_AS(static_cast<void>(rounds.run<double>(broken)), std::runtime_error);
  CHECK_THROWS_AS(static_cast<void>(rounds.run<double>({})), PreconditionError);
  CHECK_THROWS_AS(PairedRounds(ManualClock{}, ScriptedProbe{}, {.clean_rounds = 0}), PreconditionError);
  CHECK_THROWS_AS(PairedRounds(ManualClock{}, ScriptedProbe{}, {.clean_rounds = 7, .most_rounds = 6}),
                  PreconditionError);
  for (const double patience_s : {-1.0, std::numeric_limits<double>::quiet_NaN()})
    CHECK_THROWS_AS(PairedRounds(ManualClock{}, ScriptedProbe{}, {.patience_s = patience_s}), PreconditionError);
}

TEST_CASE("seconds_taken reads the given clock") {
  const ManualClock clock;
  CHECK(seconds_taken(clock, [&] { clock.advance(duration_of(0.25)); }) == 0.25);
}

}  // namespace
