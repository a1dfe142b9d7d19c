#include <doctest/doctest.h>

#include <krul/core/clock.hpp>
#include <thread>
#include <vector>

using namespace std::chrono_literals;

TEST_CASE("a ManualClock moves only when told to or slept on, and copies share its time") {
  krul::ManualClock clock;
  const krul::ManualClock copy = clock;
  CHECK(clock.now() == 0ns);
  clock.advance(3ms);
  CHECK(copy.now() == 3ms);
  copy.sleep_until(5ms);
  CHECK(clock.now() == 5ms);
  copy.sleep_until(4ms);
  CHECK(clock.now() == 5ms);
}

TEST_CASE("sleepers of several threads leave a ManualClock at the latest of their moments") {
  const krul::ManualClock clock;
  {
    std::vector<std::jthread> sleepers;
    for (int i = 1; i <= 4; ++i)
      sleepers.emplace_back([clock, i] {
        for (int step = 0; step < 1000; ++step) clock.sleep_until(krul::TimePoint(step * i));
      });
  }
  CHECK(clock.now() == krul::TimePoint(4 * 999));
}

TEST_CASE("the SteadyClock does not go back and does not wait for moments that have passed") {
  const krul::SteadyClock clock;
  const auto before = clock.now();
  clock.sleep_until(before - 1s);
  clock.sleep_until(before);
  CHECK(clock.now() >= before);
  clock.sleep_until(before + 1us);
  CHECK(clock.now() >= before + 1us);
}

TEST_CASE("durations and seconds convert") {
  CHECK(krul::seconds(1500ms) == 1.5);
  CHECK(krul::duration_of(0.25) == 250ms);
}
