#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <krul/core/half.hpp>
#include <krul/reference/half.hpp>
#include <limits>
#include <random>
#include <vector>

using krul::ElementType;
using krul::reference::bfloat16;
using krul::reference::binary16;

namespace {

bool same(float a, float b) {
  return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
}

/// Floats where rounding is decided: every f16 and bf16 value, the middles between neighbours, and the floats next to
/// both; then all exponents with random fractions.
std::vector<float> probes() {
  std::vector<float> values;
  const auto around = [&](double value) {
    const auto centre = static_cast<float>(value);
    for (const float x : {centre, std::nextafter(centre, 1e30F), std::nextafter(centre, -1e30F)}) {
      values.push_back(x);
      values.push_back(-x);
    }
  };
  for (const auto format : {binary16, bfloat16})
    for (std::uint16_t bits = 0; bits < 0x7fff; ++bits) {
      const double low = value_of(format, bits), high = value_of(format, static_cast<std::uint16_t>(bits + 1));
      if (!std::isfinite(low)) break;
      around(low);
      around(std::isfinite(high) ? low + (high - low) / 2 : low + (low - value_of(format, bits - 1)) / 2);
    }
  std::mt19937 random(1);
  for (int i = 0; i < 200000; ++i) {
    const auto value = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    if (!std::isnan(value)) values.push_back(value);
  }
  for (const float special : {0.0F, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::max(),
                              std::numeric_limits<float>::min(), std::numeric_limits<float>::denorm_min()}) {
    values.push_back(special);
    values.push_back(-special);
  }
  return values;
}

}  // namespace

TEST_CASE("every f16 and bf16 value reads as its formula says and is written back as it was") {
  std::size_t wrong = 0;
  for (std::uint32_t i = 0; i <= 0xffff; ++i) {
    const auto bits = static_cast<std::uint16_t>(i);
    const double f16 = value_of(binary16, bits), bf16 = value_of(bfloat16, bits);
    if (std::isnan(f16))
      wrong +=
          !std::isnan(krul::float_from_f16(bits)) || krul::f16_from_float(krul::float_from_f16(bits)) != (bits | 0x200);
    else
      wrong += !same(krul::float_from_f16(bits), static_cast<float>(f16)) ||
               krul::f16_from_float(krul::float_from_f16(bits)) != bits;
    if (std::isnan(bf16))
      wrong += !std::isnan(krul::float_from_bf16(bits)) ||
               krul::bf16_from_float(krul::float_from_bf16(bits)) != (bits | 0x40);
    else
      wrong += !same(krul::float_from_bf16(bits), static_cast<float>(bf16)) ||
               krul::bf16_from_float(krul::float_from_bf16(bits)) != bits;
  }
  CHECK(wrong == 0);
}

TEST_CASE("floats round to the nearest value, of two equally near to the even one") {
  std::size_t wrong = 0;
  for (const float value : probes()) {
    wrong += krul::f16_from_float(value) != nearest(binary16, value);
    wrong += krul::bf16_from_float(value) != nearest(bfloat16, value);
  }
  CHECK(wrong == 0);
}

TEST_CASE("known roundings") {
  CHECK(krul::f16_from_float(65504.0F) == 0x7bff);
  CHECK(krul::f16_from_float(65519.99F) == 0x7bff);
  CHECK(krul::f16_from_float(65520.0F) == 0x7c00);
  CHECK(krul::f16_from_float(0x1p-25F) == 0);
  CHECK(krul::f16_from_float(0x1.000002p-25F) == 1);
  CHECK(krul::f16_from_float(-0.0F) == 0x8000);
  CHECK(krul::f16_from_float(1 + 0x1p-11F) == 0x3c00);
  CHECK(krul::f16_from_float(1 + 0x3p-11F) == 0x3c02);
  CHECK(krul::bf16_from_float(1 + 0x1p-8F) == 0x3f80);
  CHECK(krul::bf16_from_float(1 + 0x3p-8F) == 0x3f82);
  CHECK(krul::bf16_from_float(std::numeric_limits<float>::max()) == 0x7f80);
}

TEST_CASE("with and without the processor's instructions the bits are the same") {
  std::size_t wrong = 0;
  for (std::uint32_t i = 0; i <= 0xffff; ++i) {
    const auto bits = static_cast<std::uint16_t>(i);
    wrong += !same(krul::detail::plain_float_from_f16(bits), krul::float_from_f16(bits));
  }
  for (const float value : probes()) wrong += krul::detail::plain_f16_from_float(value) != krul::f16_from_float(value);
  std::mt19937 random(2);
  for (int i = 0; i < 10000; ++i) {  // NaN of any payload, quiet and signalling
    const auto nan = std::bit_cast<float>(static_cast<std::uint32_t>(random()) | 0x7f800001U);
    wrong += krul::detail::plain_f16_from_float(nan) != krul::f16_from_float(nan);
  }
  CHECK(wrong == 0);
}

TEST_CASE("runs of values convert like single ones, at any length and alignment") {
  const auto values = probes();
  for (const auto type : {ElementType::f32, ElementType::f16, ElementType::bf16})
    for (const std::size_t count : {0, 1, 7, 8, 9, 16, 63})
      for (const std::size_t offset : {0, 1, 3}) {
        CAPTURE(name(type));
        CAPTURE(count);
        const std::span<const float> from(values.data() + 1000 * offset, count);
        std::vector<std::byte> memory(offset + count * size_of(type) + 1, std::byte{0xab});
        const auto bytes = std::span(memory).subspan(offset, count * size_of(type));
        krul::from_float(type, from, bytes);
        CHECK(memory.back() == std::byte{0xab});
        std::vector<float> back(count);
        krul::to_float(type, bytes, back);
        for (std::size_t i = 0; i < count; ++i) {
          const float expected = type == ElementType::f32   ? from[i]
                                 : type == ElementType::f16 ? krul::float_from_f16(krul::f16_from_float(from[i]))
                                                            : krul::float_from_bf16(krul::bf16_from_float(from[i]));
          CHECK(same(back[i], expected));
        }
      }
}

TEST_CASE("spans of different lengths are refused") {
  std::vector<float> floats(4);
  std::vector<std::byte> bytes(9);
  for (const auto type : {ElementType::f32, ElementType::f16, ElementType::bf16}) {
    CHECK_THROWS_AS(krul::to_float(type, bytes, floats), krul::PreconditionError);
    CHECK_THROWS_AS(krul::from_float(type, floats, bytes), krul::PreconditionError);
  }
}
