#include "krul/core/finite.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <vector>

#include "krul/core/half.hpp"

using namespace krul;

TEST_CASE(
    "the largest, the smallest and zero are finite in every type; infinity and NaN are not, wherever they stand") {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  for (const auto type : {ElementType::f32, ElementType::f16, ElementType::bf16}) {
    CAPTURE(name(type));
    for (const std::size_t count : {1, 7, 64, 1001}) {
      std::vector<float> values(count, -65504);
      values[0] = 0x1p-24F;
      values[count / 2] = -0.0F;
      const auto finite_with = [&](std::size_t at, float value) {
        auto changed = values;
        changed[at] = value;
        std::vector<std::byte> bytes(count * size_of(type) + 1);
        const auto unaligned = std::span(bytes).subspan(1);
        from_float(type, changed, unaligned);
        return are_finite(type, unaligned);
      };
      CHECK(finite_with(0, 1));
      for (const std::size_t at : {std::size_t{0}, count / 2, count - 1})
        for (const float value : {infinity, -infinity, std::numeric_limits<float>::quiet_NaN()})
          CHECK_FALSE(finite_with(at, value));
    }
    CHECK(are_finite(type, {}));
  }
  CHECK(are_finite(std::vector<float>{std::numeric_limits<float>::max(), std::numeric_limits<float>::denorm_min()}));
  CHECK_FALSE(are_finite(std::vector<float>{1, infinity}));
}
