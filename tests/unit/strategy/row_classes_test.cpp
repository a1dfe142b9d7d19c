#include "krul/strategy/row_classes.hpp"

#include <doctest/doctest.h>

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

}  // namespace

TEST_CASE("who received more is coded more finely, and the usual class is the mean") {
  std::mt19937_64 random(3);
  std::lognormal_distribution<float> spread(-6, 1);
  const RowAttention attention = received(500, [&](std::size_t, std::size_t) { return spread(random); });
  const ClassesByAttention by{.floor = 0, .finest = -8, .coarsest = 7};
  const auto classes = row_classes(attention, 500, by);
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
  const auto classes = row_classes(attention, 3, {.exponent = 1, .floor = 0, .finest = -8, .coarsest = 7});
  CHECK(classes[1] == StepClasses::usual + 1);
  CHECK(classes[2] == StepClasses::usual - 1);
  const auto halves = row_classes(attention, 3, {.exponent = 0.3, .floor = 0});
  CHECK(halves[1] == StepClasses::usual);
}

TEST_CASE("no row is taken to receive nothing, and none to receive all") {
  const RowAttention attention = received(1000, [](std::size_t, std::size_t row) {
    return row == 7 ? 1.0F : row % 2 == 0 ? 1e-3F : 0.0F;
  });
  const ClassesByAttention by;
  for (const std::uint8_t of : row_classes(attention, 1000, by)) {
    CHECK(of >= StepClasses::usual + by.finest);
    CHECK(of <= StepClasses::usual + by.coarsest);
  }
}

TEST_CASE("nothing is said where nothing was seen") {
  const RowAttention attention = received(10, [](std::size_t, std::size_t) { return 0.1F; });
  CHECK(row_classes(attention, 11, {}).empty());
  CHECK(row_classes(attention, 1, {}).empty());
  CHECK(row_classes(attention, 10, {.exponent = 0}).empty());
  CHECK(row_classes(RowAttention(), 0, {}).empty());
  for (const std::uint8_t of : row_classes(attention, 10, {})) CHECK(of == StepClasses::usual);
  const RowAttention none = received(10, [](std::size_t, std::size_t) { return 0.0F; });
  for (const std::uint8_t of : row_classes(none, 10, {})) CHECK(of == StepClasses::usual);
}
