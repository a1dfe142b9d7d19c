#include "progress_lines.hpp"

#include <doctest/doctest.h>

namespace {
using krul::duration_of;
using krul::ManualClock;
using krul::cli::ProgressLines;
using Line = std::optional<std::string>;

TEST_CASE("a log gets a line in ten seconds, however often progress is reported") {
  const ManualClock clock;
  ProgressLines lines(clock);
  std::string log;
  for (int second = 0; second <= 35; ++second) {
    for (const char* part : {"a", "b"})
      if (const auto line = lines.report(std::to_string(second) + part)) log += *line + "\n";
    clock.advance(duration_of(1));
  }
  CHECK(log == "10a\n20a\n30a\n");
  CHECK(lines.finish() == Line("35b"));
}

TEST_CASE("the ten seconds count from the last line that was written") {
  const ManualClock clock;
  ProgressLines lines(clock);
  clock.advance(duration_of(14));
  CHECK(lines.report("late") == Line("late"));
  clock.advance(duration_of(9));
  CHECK(lines.report("held back") == Line());
  clock.advance(duration_of(1));
  CHECK(lines.report("due") == Line("due"));
}

TEST_CASE("the last state is written once, unless it was already") {
  const ManualClock clock;
  ProgressLines lines(clock);
  clock.advance(duration_of(10));
  CHECK(lines.report("1 of 3") == Line("1 of 3"));
  CHECK(lines.finish() == Line());
  CHECK(lines.report("2 of 3") == Line());
  CHECK(lines.report("3 of 3") == Line());
  CHECK(lines.finish() == Line("3 of 3"));
  CHECK(lines.finish() == Line());
}

TEST_CASE("what takes less than ten seconds leaves no line") {
  const ManualClock clock;
  ProgressLines lines(clock);
  CHECK(lines.report("loading") == Line());
  clock.advance(duration_of(9.9));
  CHECK(lines.report("nearly there") == Line());
  CHECK(lines.finish() == Line());
}

}  // namespace
