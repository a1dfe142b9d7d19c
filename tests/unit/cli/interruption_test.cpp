#include "interruption.hpp"

#include <doctest/doctest.h>

namespace {
using krul::cli::Interruption;

/// What a signal does at present.
auto handler_of(int number) {
  struct sigaction present {};
  ::sigaction(number, nullptr, &present);
  return present.sa_handler;
}

/// Whoever runs the tests may ignore it.
struct Defaults {
  Defaults() {
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) std::signal(number, SIG_DFL);
  }
};

TEST_CASE("the first signal is noted, the next one ends the program") {
  const Defaults defaults;
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    const Interruption interruption;
    CHECK(interruption.signal() == 0);
    std::raise(number);
    CHECK(interruption.signal() == number);
    for (const int next : {SIGINT, SIGTERM, SIGHUP}) CHECK((handler_of(next) == SIG_DFL));
  }
}

TEST_CASE("a signal that was dealt with can be noted again") {
  const Defaults defaults;
  Interruption interruption;
  for (int time = 0; time < 2; ++time) {
    std::raise(SIGINT);
    CHECK(interruption.signal() == SIGINT);
    interruption.rearm();
    CHECK(interruption.signal() == 0);
  }
}

TEST_CASE("waiting for input ends with a signal, also with one that came before") {
  const Defaults defaults;
  int nothing[2];
  REQUIRE(::pipe(nothing) == 0);
  Interruption interruption;
  for (int time = 0; time < 2; ++time) {
    std::raise(SIGINT);
    interruption.wait_for(nothing[0]);
    CHECK(interruption.signal() == SIGINT);
    interruption.rearm();
  }
  REQUIRE(::write(nothing[1], "x", 1) == 1);
  interruption.wait_for(nothing[0]);
  CHECK(interruption.signal() == 0);
  ::close(nothing[0]);
  ::close(nothing[1]);
}

TEST_CASE("afterwards signals do what they did before") {
  const Defaults defaults;
  { const Interruption interruption; }
  CHECK((handler_of(SIGINT) == SIG_DFL));
}

TEST_CASE("a signal that the program was started to ignore stays ignored") {
  const Defaults defaults;
  std::signal(SIGHUP, SIG_IGN);
  const Interruption interruption;
  std::raise(SIGHUP);
  CHECK(interruption.signal() == 0);
  CHECK((handler_of(SIGHUP) == SIG_IGN));
  std::signal(SIGHUP, SIG_DFL);
}

}  // namespace
