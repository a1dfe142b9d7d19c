#include "krul/eval/patience.hpp"

#include <doctest/doctest.h>

#include <limits>

namespace {
using krul::duration_of;
using krul::ManualClock;
using krul::PreconditionError;
using krul::eval::Patience;

TEST_CASE("each measurement may take its share, and what one leaves is there for the next") {
  const ManualClock clock;
  clock.advance(duration_of(100));
  const Patience patience(60, clock);
  CHECK(patience.share_s(3) == 20);
  clock.advance(duration_of(10));
  CHECK(patience.share_s(2) == 25);
  clock.advance(duration_of(40));
  CHECK(patience.share_s() == 10);
}

TEST_CASE("patience runs out and stays at nothing") {
  const ManualClock clock;
  const Patience patience(60, clock);
  clock.advance(duration_of(61));
  CHECK(patience.share_s() == 0);
  CHECK(patience.share_s(5) == 0);
  CHECK(Patience(0, clock).share_s() == 0);
}

TEST_CASE("patience without end") {
  const ManualClock clock;
  const Patience patience(std::numeric_limits<double>::infinity(), clock);
  clock.advance(duration_of(1e6));
  CHECK(patience.share_s(8) == std::numeric_limits<double>::infinity());
}

TEST_CASE("mistakes in a call") {
  CHECK_THROWS_AS(Patience(-1, ManualClock{}), PreconditionError);
  CHECK_THROWS_AS(Patience(std::numeric_limits<double>::quiet_NaN(), ManualClock{}), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(Patience(1, ManualClock{}).share_s(0)), PreconditionError);
}

}  // namespace
