#include <doctest/doctest.h>

#include <cmath>
#include <krul/core/half.hpp>

using krul::ElementType;

TEST_CASE("element types have a size and a name that leads back to them") {
  for (const auto type : {ElementType::f32, ElementType::f16, ElementType::bf16})
    CHECK(krul::element_type_from(name(type)) == type);
  CHECK(size_of(ElementType::f32) == 4);
  CHECK(size_of(ElementType::f16) == 2);
  CHECK(size_of(ElementType::bf16) == 2);
  CHECK_FALSE(krul::element_type_from("F16").has_value());
  CHECK_FALSE(krul::element_type_from("").has_value());
}

TEST_CASE("the unit roundoff is reached half way between two values and never exceeded") {
  for (const auto type : {ElementType::f16, ElementType::bf16}) {
    const auto unit = static_cast<float>(unit_roundoff(type));
    for (int i = 0; i <= 4000; ++i) {
      const float value = 1 + 4 * unit * static_cast<float>(i) / 4000;
      std::byte bytes[2];
      float back = 0;
      krul::from_float(type, std::span(&value, 1), bytes);
      krul::to_float(type, bytes, std::span(&back, 1));
      CHECK(std::abs(double{back} - value) <= unit_roundoff(type) * value);
    }
  }
}
