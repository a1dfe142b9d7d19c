#include "krul/eval/turns.hpp"

#include <doctest/doctest.h>

namespace {
using krul::PreconditionError;
using krul::eval::equal_turns;
using krul::eval::TurnCut;
using krul::eval::turns_before_last;

TEST_CASE("turns of the same length, one after the other") {
  const auto turns = equal_turns(1152, 20);
  REQUIRE(turns.size() == 20);
  std::size_t end = 0;
  for (const auto& turn : turns) {
    CHECK(turn.begin == end);
    CHECK(turn.size() == 57);
    end = turn.end;
  }
  CHECK(equal_turns(5, 5).back().end == 5);
  CHECK(equal_turns(5, 1).front().end == 5);
}

TEST_CASE("the last turn is the same, however many come before it") {
  for (const std::size_t count : {2U, 5U, 20U}) {
    const auto turns = turns_before_last(1152, count, 64);
    REQUIRE(turns.size() == count);
    CHECK(turns.back().begin == 1088);
    CHECK(turns.back().end == 1152);
    std::size_t end = 0;
    for (const auto& turn : turns) {
      CHECK(turn.begin == end);
      end = turn.end;
    }
  }
}

TEST_CASE("turns that cannot be cut") {
  CHECK_THROWS_AS(static_cast<void>(turns_before_last(5, 1, 2)), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(turns_before_last(5, 2, 0)), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(turns_before_last(5, 2, 5)), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(turns_before_last(5, 5, 2)), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(equal_turns(5, 0)), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(equal_turns(5, 6)), PreconditionError);
}

TEST_CASE("a cut says what it needs, and is one of the two") {
  CHECK(TurnCut{4, 0}.least_tokens() == 8);
  CHECK(TurnCut{4, 5}.least_tokens() == 11);
  CHECK(TurnCut{3, 0}.of(10) == equal_turns(10, 3));
  CHECK(TurnCut{3, 4}.of(11) == turns_before_last(11, 3, 4));
}

}  // namespace
