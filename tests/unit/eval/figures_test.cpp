#include "krul/eval/figures.hpp"

#include <doctest/doctest.h>

#include <array>
#include <limits>

namespace krul::eval {
namespace {

TEST_CASE("figures are joined in order, left out and found by name") {
  const Figures figures = joined({{"kl", 0.5}, {"tokens", std::uint64_t{7}}}, {{"name", std::string("krul")}});
  REQUIRE(figures.size() == 3);
  CHECK(figures[2].name == "name");
  CHECK(value_of(figures, "tokens") == FigureValue(std::uint64_t{7}));
  constexpr std::array<std::string_view, 2> some = {"kl", "nothing of the kind"};
  CHECK(without(figures, some) == Figures{{"tokens", std::uint64_t{7}}, {"name", std::string("krul")}});
  CHECK_THROWS_AS(static_cast<void>(value_of(figures, "bytes")), PreconditionError);
}

TEST_CASE("what was not measured is nothing") {
  CHECK(finite_or_nothing(2) == FigureValue(2.0));
  CHECK(finite_or_nothing(-std::numeric_limits<double>::infinity()) == FigureValue());
  CHECK(finite_or_nothing(std::numeric_limits<double>::quiet_NaN()) == FigureValue());
  CHECK(value_or_nothing(std::optional<double>()) == FigureValue());
  CHECK(value_or_nothing(std::optional<std::uint64_t>(3)) == FigureValue(std::uint64_t{3}));
}

}  // namespace
}  // namespace krul::eval
