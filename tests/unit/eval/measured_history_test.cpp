#include "krul/eval/measured_history.hpp"

#include <doctest/doctest.h>

#include "krul/core/clock.hpp"
#include "krul/eval/measure_costs.hpp"
#include "krul/eval/patience.hpp"

namespace {
using krul::eval::MeasuredHistory;

constexpr std::size_t context = 1 << 20;
constexpr auto longest = MeasuredHistory::for_context(context);

TEST_CASE("all that is measured fits the context") {
  for (std::size_t tokens = 0; tokens < 20'000; tokens += tokens < 600 ? 1 : 97) {
    const auto history = MeasuredHistory::for_context(tokens);
    CHECK((history.longest == 0) == (tokens < 64));
    if (history.longest == 0) continue;
    CHECK(history.prompt > 0);
    for (const auto& shape : krul::eval::calibration_shapes(history.longest, history.prompt))
      CHECK(shape.history + shape.prompt <= tokens);
  }
}

TEST_CASE("a fast machine is measured as the context allows") {
  const auto history = longest.for_time(1e-5, 30, context);
  CHECK(history.longest == 4096);
  CHECK(history.prompt == 32);
}

/// Runs that often as many rows as measuring each restore once does.
double seconds_once(const MeasuredHistory& history, double row_s) {
  double rows = static_cast<double>(history.longest);
  for (const auto& shape : krul::eval::calibration_shapes(history.longest, history.prompt)) {
    const double once = shape.front * static_cast<double>(shape.history) + static_cast<double>(shape.prompt);
    rows += shape.front > 0.2 || shape.prompt != history.prompt ? once : 3 * once;  // from disk, and beside it
  }
  return rows * row_s;
}

TEST_CASE("however slow the model is, what is begun takes no longer than there is time") {
  for (double row_s = 1e-5; row_s < 100; row_s *= 1.3) {
    const krul::ManualClock clock;
    const krul::eval::Patience patience(30, clock);
    clock.advance(krul::duration_of(row_s));  // what finding that out took
    const auto history = longest.for_time(row_s, patience.share_s(), context);
    if (history.longest == 0) continue;
    clock.advance(krul::duration_of(seconds_once(history, row_s)));
    CHECK(patience.share_s() > 0);
  }
  CHECK(longest.for_time(1, 30, context).longest == 0);
  CHECK(longest.for_time(1e-3, 0, context).longest == 0);
}

}  // namespace
