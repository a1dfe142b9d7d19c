#include "krul/eval/bit_packing.hpp"
#include "krul/core/half.hpp"

#include <doctest/doctest.h>

#include <random>

namespace krul::eval {
namespace {

TEST_CASE("packed numbers come back and take no more bits than they have") {
  std::mt19937_64 random(1);
  for (unsigned bits = 1; bits <= 8; ++bits)
    for (const std::size_t count : {0, 1, 7, 8, 32, 33}) {
      std::vector<std::uint8_t> codes(count), back(count);
      for (auto& code : codes) code = static_cast<std::uint8_t>(random() & ((1U << bits) - 1));
      const auto packed = pack_bits(codes, bits);
      CHECK(packed.size() == (count * bits + 7) / 8);
      unpack_bits(packed, bits, back);
      CHECK(back == codes);
    }
  CHECK(pack_bits(std::vector<std::uint8_t>{1, 2, 5}, 3) == std::vector<std::byte>{std::byte{0x51}, std::byte{0x1}});
}

TEST_CASE("other widths and lengths are the caller's mistake") {
  std::vector<std::uint8_t> codes(3);
  const std::vector<std::byte> packed(1);
  CHECK_THROWS_AS((void)pack_bits(codes, 0), PreconditionError);
  CHECK_THROWS_AS((void)pack_bits(codes, 9), PreconditionError);
  CHECK_THROWS_AS(unpack_bits(packed, 3, codes), PreconditionError);
  CHECK_NOTHROW(unpack_bits(packed, 2, codes));
  ByteReader in(packed);
  std::vector<float> values(1);
  CHECK_THROWS_AS(read_f16(in, values), PreconditionError);
}

TEST_CASE("values lie within half a step, and what f16 rounds of the ends") {
  std::mt19937_64 random(2);
  std::normal_distribution<float> normal(-3, 2);
  for (const unsigned bits : {2U, 3U, 4U, 8U}) {
    std::vector<float> values(32);
    for (float& value : values) value = normal(random);
    std::vector<std::uint8_t> codes(values.size());
    const AffineScale scale = AffineScale::of(values, bits);
    scale.quantise(values, bits, codes);
    const float zero = float_from_f16(scale.zero), step = float_from_f16(scale.scale);
    const float range = step * static_cast<float>((1U << bits) - 1);
    // Step and zero are off by 2^-11 of themselves, so the ends are by that of the zero and of the range; as much again
    // for the float arithmetic is plenty.
    const float most = step / 2 + 2 * (std::abs(zero) + range) * 0x1p-11F;
    for (std::size_t i = 0; i < values.size(); ++i) CHECK(std::abs(scale.value(codes[i]) - values[i]) <= most);
  }
  const std::vector<float> equal(5, 0.5F);
  std::vector<std::uint8_t> codes(5);
  const AffineScale scale = AffineScale::of(equal, 4);
  scale.quantise(equal, 4, codes);
  CHECK(scale.value(codes[3]) == 0.5F);
}

}  // namespace
}  // namespace krul::eval
