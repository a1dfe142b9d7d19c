#include "krul/model/dequantize.hpp"
#include "krul/core/half.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "krul/model/four_bit_block.hpp"
#include "krul/reference/dequantize.hpp"
#include "support/gguf_writer.hpp"
#include "vectors/dequantize_vectors.hpp"

using namespace krul;

namespace {

static_assert(block_values(GgufType::f32) == 1 && block_bytes(GgufType::f32) == 4);
static_assert(block_values(GgufType::q4_1) == 32 && block_bytes(GgufType::q4_1) == 20);
static_assert(block_values(GgufType::q6_k) == 256 && block_bytes(GgufType::q6_k) == 210);
static_assert(name(GgufType::q5_0) == "Q5_0" && gguf_type_layout(30)->type == GgufType::bf16);
static_assert(!gguf_type_layout(10) && !gguf_type_layout(0xffffffffU));

constexpr auto no_type = static_cast<GgufType>(10);

std::vector<float> dequantized(GgufType type, std::span<const std::byte> blocks) {
  std::vector<float> values(blocks.size() / block_bytes(type) * block_values(type));
  REQUIRE(dequantize(type, blocks, values).has_value());
  return values;
}

/// The exact value of a code fits a double, and the fast path rounds it once: the results are equal, not just near.
void check_against_reference(GgufType type, std::span<const std::byte> blocks) {
  const auto values = dequantized(type, blocks);
  const auto expected = reference::dequantize(type, blocks);
  REQUIRE(values.size() == expected.size());
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto rounded = static_cast<float>(expected[i]);
    wrong += values[i] != rounded && !(std::isnan(values[i]) && std::isnan(rounded));
  }
  CHECK_MESSAGE(wrong == 0, name(type));
}

}  // namespace

TEST_CASE("every type reads as the gguf package reads it") {
  for (const auto& vector : testing::dequantize_vectors) {
    CAPTURE(name(vector.type));
    const auto values = dequantized(vector.type, std::as_bytes(vector.blocks));
    REQUIRE(values.size() == vector.values.size());
    for (std::size_t i = 0; i < values.size(); ++i) CHECK(values[i] == std::bit_cast<float>(vector.values[i]));
  }
}

TEST_CASE("random bytes, not-a-number and infinite scales included, read as the reference reads them") {
  std::mt19937_64 random(7);
  for (const auto& layout : gguf_types) {
    std::vector<std::byte> blocks(layout.block_bytes * (layout.block_values == 256 ? 200 : 1000));
    for (auto& byte : blocks) byte = static_cast<std::byte>(random());
    check_against_reference(layout.type, blocks);
  }
}

TEST_CASE("every f16 and bf16 reads as the reference reads it") {
  testing::ByteWriter all;
  for (unsigned bits = 0; bits < 0x10000; ++bits) all.put(static_cast<std::uint16_t>(bits));
  check_against_reference(GgufType::f16, all.bytes());
  check_against_reference(GgufType::bf16, all.bytes());
}

TEST_CASE("a block by hand") {
  testing::ByteWriter block;
  block.put(f16_from_float(0.5F));
  block.put(f16_from_float(-2.0F));
  block.put(std::uint8_t{0xf3});  // values 0 and 16: codes 3 and 15
  for (int j = 1; j < 16; ++j) block.put(std::uint8_t{0});

  const auto values = dequantized(GgufType::q4_1, block.bytes());

  CHECK(values[0] == -0.5F);
  CHECK(values[1] == -2.0F);
  CHECK(values[16] == 5.5F);
}

TEST_CASE("blocks need not be aligned") {
  std::vector<float> ramp(64);
  for (std::size_t i = 0; i < ramp.size(); ++i) ramp[i] = static_cast<float>(i) - 20;
  const auto blocks = testing::quantize(GgufType::q8_0, ramp);
  std::vector<std::byte> shifted(1);
  shifted.insert(shifted.end(), blocks.begin(), blocks.end());

  CHECK(dequantized(GgufType::q8_0, std::span(shifted).subspan(1)) == dequantized(GgufType::q8_0, blocks));
}

TEST_CASE("what the test writer codes comes back within half a step") {
  std::mt19937_64 random(3);
  std::vector<float> values(320);
  for (auto& value : values) value = static_cast<float>(random() >> 40) * 0x1p-24F - 0.5F;

  // Values lie in [-0.5, 0.5): the step of q8_0 is at most 0.5/127, that of q4_1 at most 1/15; the f16 scale is off
  // by 2^-11 of itself, which 127 or 15 steps multiply, and so is the minimum of q4_1.
  const struct {
    GgufType type;
    float bound;
  } cases[] = {{GgufType::f32, 0},
               {GgufType::f16, 0.5F * 0x1p-11F},
               {GgufType::bf16, 0.5F * 0x1p-8F},
               {GgufType::q8_0, 0.5F / 127 * (0.5F + 127 * 0x1p-11F)},
               {GgufType::q4_1, 1.0F / 15 * (0.5F + 15 * 0x1p-11F) + 0.5F * 0x1p-11F}};
  for (const auto& expected : cases) {
    CAPTURE(name(expected.type));
    const auto back = dequantized(expected.type, testing::quantize(expected.type, values));
    float worst = 0;
    for (std::size_t i = 0; i < values.size(); ++i) worst = std::max(worst, std::abs(back[i] - values[i]));
    CHECK(worst <= expected.bound * 1.001F);  // the bound itself is computed in floats
  }
}

TEST_CASE("sizes that do not match, and types that do not exist, are refused") {
  std::vector<std::byte> blocks(40);
  std::vector<float> values(64);

  const auto partial = dequantize(GgufType::q4_1, blocks, std::span(values).first(33));
  REQUIRE_FALSE(partial.has_value());
  CHECK(partial.error().code == ErrorCode::invalid_argument);
  CHECK(partial.error().message == "33 values of type Q4_1 do not take 40 bytes; give whole blocks");
  CHECK_FALSE(dequantize(GgufType::q4_1, std::span(blocks).first(39), values).has_value());
  CHECK_FALSE(dequantize(GgufType::q4_1, blocks, std::span(values).first(32)).has_value());
  CHECK(dequantize(GgufType::q4_1, {}, {}).has_value());

  const auto foreign = dequantize(no_type, blocks, values);
  REQUIRE_FALSE(foreign.has_value());
  CHECK(foreign.error().code == ErrorCode::unsupported);
  CHECK_THROWS_AS((void)block_values(no_type), PreconditionError);
  CHECK_THROWS_AS((void)block_bytes(no_type), PreconditionError);
  CHECK_THROWS_AS((void)name(no_type), PreconditionError);
  CHECK_THROWS_AS((void)reference::dequantize(GgufType::q4_1, std::span(blocks).first(39)), PreconditionError);
}

TEST_CASE("values of types with four bits lie on what their blocks say") {
  std::mt19937_64 random(11);
  for (const auto& layout : gguf_types) {
    CAPTURE(layout.name);
    std::vector<std::byte> bytes(layout.block_bytes * 64);
    for (auto& byte : bytes) byte = static_cast<std::byte>(random());
    std::vector<FourBitBlock> blocks(64 * layout.block_values / four_bit_values);
    const auto status = read_four_bit_blocks(layout.type, bytes, blocks);
    CHECK(status.has_value() == has_four_bits(layout.type));
    if (!status) {
      CHECK(status.error().code == ErrorCode::unsupported);
      continue;
    }
    const auto values = dequantized(layout.type, bytes);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto [scale, minimum] = blocks[i / four_bit_values];
      if (!std::isfinite(scale) || !std::isfinite(minimum)) continue;
      double nearest = 1e300;
      for (int code = 0; code < 16; ++code)
        nearest = std::min(nearest, std::abs(values[i] - (static_cast<double>(scale) * code + minimum)));
      CHECK(nearest <= (15 * std::abs(scale) + std::abs(minimum)) * 0x1p-23);
    }
    CHECK(read_four_bit_blocks(layout.type, std::span(bytes).first(bytes.size() - 1), blocks).error().code ==
          ErrorCode::invalid_argument);
  }
  std::vector<FourBitBlock> blocks(1);
  CHECK(read_four_bit_blocks(no_type, {}, blocks).error().code == ErrorCode::unsupported);
}
