#include "krul/eval/machine_roof.hpp"

#include <doctest/doctest.h>

using namespace krul;

TEST_CASE("a machine multiplies and reads at some speed") {
  Workers workers(1);
  for (const auto precision : {Precision::f32, Precision::bf16, Precision::int8})
    for (const auto form : {WeightForm::any, WeightForm::four_bits})
      CHECK(eval::measure_arithmetic_roof(precision, workers, form) > 0);
  CHECK(eval::measure_reading_roof(workers) > 0);
}
