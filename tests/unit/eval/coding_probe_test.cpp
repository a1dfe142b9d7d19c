#include "krul/eval/coding_probe.hpp"

#include <doctest/doctest.h>

#include "support/ticking_clock.hpp"
#include "support/toy_profile.hpp"

using namespace krul;
using krul::test::TickingClock;

TEST_CASE("a profile's coding is tried on a text of the model") {
  toy::Backend model;
  const auto profile = test::toy_profile(model);
  const auto tokens = test::toy_tokens(150, 3);  // two whole blocks
  using Probe = eval::CodingProbe<toy::Backend, TickingClock>;
  const Probe probe(model, profile, tokens);
  const auto fine = probe.run({{-20}}), coarse = probe.run({{4}});
  REQUIRE(fine);
  REQUIRE(coarse);
  CHECK(fine->bytes > coarse->bytes);
  CHECK(coarse->bytes > 0);
  // Each group and block takes a look at the clock before and after.
  const double looks = 2 * static_cast<double>(profile->data().groups.size());
  CHECK(fine->encode_us == doctest::Approx(looks / 128));
  CHECK(fine->decode_us == doctest::Approx(looks / 128));
  const auto best = probe.fastest({{4}}, 3);
  REQUIRE(best);
  CHECK(best->bytes == coarse->bytes);
  const auto attended = probe.run({.step = {4}, .by_attention = true});
  REQUIRE(attended);
  CHECK(attended->bytes != coarse->bytes);
  CHECK_THROWS_AS(Probe(model, profile, std::span(tokens).first(63)), PreconditionError);
  CHECK_THROWS_AS(Probe(model, nullptr, tokens), PreconditionError);
}
