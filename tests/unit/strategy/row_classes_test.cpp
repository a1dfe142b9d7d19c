#include "krul/strategy/row_classes.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <random>

using namespace krul;

namespace {

/// Rows that received what `weight` gives.
template <class Weight>
RowAttention received(std::size_t rows, Weight&& weight) {
  RowAttention attention({2, 4});
  attention.reserve_rows(rows);
  attention.counted = 1;
  for (std::size_t band = 0; band < 2; ++band)
    for (std::size_t row = 0; row < rows; ++row) attention.squares[band * rows + row] = weight(band, row);
  return attention;
}

/// The classes where no token is surprising.
std::vector<std::uint8_t> common_classes(const RowAttention& attention, std::size_t rows,
                                         const ClassesByAttention& by) {
  const std::vector<Token> tokens(rows, 0);  // one that is repeated
  return row_classes({attention, tokens, 100}, by);
}

}  // namespace

TEST_CASE("who received more is coded more finely, and the usual class is the mean") {
  std::mt19937_64 random(3);
  std::lognormal_distribution<float> spread(-6, 1);
  const RowAttention attention = received(500, [&](std::size_t, std::size_t) { return spread(random); });
  const ClassesByAttention by{.floor = 0, .finest = -8, .coarsest = 7};
  const auto classes = common_classes(attention, 500, by);
  REQUIRE(classes.size() == 1000);
  for (std::size_t band = 0; band < 2; ++band) {
    double mean = 0;
    for (std::size_t a = 1; a < 500; ++a) {
      mean += classes[band * 500 + a] / 499.0;
      for (std::size_t b = 1; b < 500; ++b)
        if (attention.received(band, a) > attention.received(band, b))
          CHECK(classes[band * 500 + a] <= classes[band * 500 + b]);
    }
    CHECK(mean == doctest::Approx(StepClasses::usual).epsilon(0.03));  // rounded, and cut at both ends
  }
}

TEST_CASE("the step goes with the root of what was received, as far as the exponent says") {
  // Four times as much, twice as fine: 16 codes at an exponent of 1, and as much to both sides of the mean.
  const RowAttention attention = received(3, [](std::size_t, std::size_t row) { return row == 2 ? 0.04F : 0.01F; });
  const auto classes = common_classes(attention, 3, {.exponent = 1, .floor = 0, .finest = -8, .coarsest = 7});
  CHECK(classes[1] == StepClasses::usual + 1);
  CHECK(classes[2] == StepClasses::usual - 1);
  const auto halves = common_classes(attention, 3, {.exponent = 0.3, .floor = 0});
  CHECK(halves[1] == StepClasses::usual);
}

TEST_CASE("no row is taken to receive nothing, and none to receive all") {
  const RowAttention attention = received(1000, [](std::size_t, std::size_t row) {
    return row == 7 ? 1.0F : row % 2 == 0 ? 1e-3F : 0.0F;
  });
  const ClassesByAttention by;
  for (const std::uint8_t of : common_classes(attention, 1000, by)) {
    CHECK(of >= StepClasses::usual + by.finest);
    CHECK(of <= StepClasses::usual + by.coarsest);
  }
}

TEST_CASE("nothing is said where nothing was seen") {
  const RowAttention attention = received(10, [](std::size_t, std::size_t) { return 0.1F; });
  CHECK(common_classes(attention, 11, {}).empty());
  CHECK(common_classes(attention, 1, {}).empty());
  CHECK(common_classes(attention, 10, {.exponent = 0}).empty());
  CHECK(common_classes(RowAttention(), 0, {}).empty());
  for (const std::uint8_t of : common_classes(attention, 10, {})) CHECK(of == StepClasses::usual);
  const RowAttention none = received(10, [](std::size_t, std::size_t) { return 0.0F; });
  for (const std::uint8_t of : common_classes(none, 10, {})) CHECK(of == StepClasses::usual);
}

TEST_CASE("rows of surprising tokens are no coarser than the usual step, and as fine as attention says") {
  const RowAttention attention =
      received(200, [](std::size_t, std::size_t row) { return row % 4 == 0 ? 1e-2F : 1e-5F; });
  std::vector<Token> tokens(200, 7);
  for (std::size_t row = 0; row < 200; row += 3) tokens[row] = static_cast<Token>(1000 + row);
  const ClassesByAttention by;
  const auto repeated = common_classes(attention, 200, by), classes = row_classes({attention, tokens, 2000}, by);
  const auto surprise = token_surprise(tokens, 2000);
  for (std::size_t at = 0; at < classes.size(); ++at) {
    const bool surprising = surprise[at % 200] >= by.surprising;
    CHECK(surprising == (at % 200 % 3 == 0));
    CHECK(classes[at] ==
          (surprising ? std::min<int>(repeated[at], StepClasses::usual + by.coarsest_surprising) : repeated[at]));
  }
}
