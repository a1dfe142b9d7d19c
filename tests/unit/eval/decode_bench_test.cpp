#include "krul/eval/decode_bench.hpp"

#include <doctest/doctest.h>

#include "support/ticking_clock.hpp"
#include "support/toy_conversation.hpp"

namespace krul {
namespace {

using test::TickingClock;

TEST_CASE("decoding is measured alone and beside a save, as often as it is asked for") {
  toy::Backend model{ElementType::f16};
  eval::DecodeBench<toy::Backend, TickingClock> bench(model, test::toy_tokens(70), 60);
  for (int round = 0; round < 3; ++round) {
    const auto alone = bench.alone();
    CHECK(alone.step_s == doctest::Approx(1e-6 / 10));  // one tick for ten tokens
    CHECK(alone.save_s == 0);
    const auto saving = bench.beside_save();
    REQUIRE(saving);
    CHECK(saving->begin_s > 0);
    CHECK(saving->step_s > 0);
    CHECK(saving->save_s > saving->begin_s);
  }
}

TEST_CASE("decoding needs tokens, and no context") {
  toy::Backend model{ElementType::f16};
  CHECK_THROWS_AS((eval::DecodeBench<toy::Backend>(model, test::toy_tokens(5), 5)), PreconditionError);
  CHECK((eval::DecodeBench<toy::Backend, TickingClock>(model, test::toy_tokens(5), 0).alone().step_s) > 0);
}

}  // namespace
}  // namespace krul
