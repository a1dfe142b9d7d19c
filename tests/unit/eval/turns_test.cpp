#include "krul/eval/turns.hpp"

#include <doctest/doctest.h>

namespace {
using krul::PreconditionError;
using krul::eval::equal_turns;

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

TEST_CASE("turns that cannot be cut") {
  CHECK_THROWS_AS(static_cast<void>(equal_turns(5, 0)), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(equal_turns(5, 6)), PreconditionError);
}

}  // namespace
