#include "krul/compress/entropy/byte_coder.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <random>

#include "krul/core/half.hpp"

using namespace krul;

namespace {

/// High bytes of bf16 normal numbers: skewed. Of high bytes of f16 there are more kinds. Low bytes are even.
std::vector<std::byte> sample(const char* kind, std::size_t size) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<std::byte> bytes;
  for (std::size_t i = 0; i < size; ++i) {
    const float value = normal(random);
    const unsigned bits = kind[0] == 'b' ? bf16_from_float(value) : f16_from_float(value);
    bytes.push_back(static_cast<std::byte>(kind[1] == 'h' ? bits >> 8 : kind[1] == 'l' ? bits & 255 : 7));
  }
  return bytes;
}

double entropy_bits(std::span<const std::byte> bytes) {
  std::array<double, 256> seen{};
  for (const std::byte byte : bytes) ++seen[std::to_integer<std::size_t>(byte)];
  double bits = 0;
  for (const double count : seen)
    if (count > 0) bits -= count * std::log2(count / static_cast<double>(bytes.size()));
  return bits;
}

}  // namespace

TEST_CASE("bytes come back, and never take more than one byte beside themselves") {
  for (const char* kind : {"bh", "bl", "fh", "fl", "one"})
    for (const std::size_t size : {0U, 1U, 2U, 31U, 33U, 255U, 257U, 20000U}) {
      CAPTURE(kind);
      CAPTURE(size);
      const auto bytes = sample(kind, size);
      const auto coded = encode_bytes(bytes);
      CHECK(coded.size() <= size + 1);
      std::vector<std::byte> out(size);
      CHECK(decode_bytes(coded, out));
      CHECK(out == bytes);
    }
}

TEST_CASE("skewed bytes are close to their entropy") {
  for (const char* kind : {"bh", "fh", "one"}) {
    CAPTURE(kind);
    const auto bytes = sample(kind, 100000);
    // States, the kinds of bytes and their table, the block's last column; 64 symbols have to have a slot of 2^14 each;
    // of f16 some kinds are escapes.
    const double header = 8.0 * (128 + 2 + 256 + 130) + 256 * 14;
    CHECK(8.0 * static_cast<double>(encode_bytes(bytes).size()) <=
          entropy_bits(bytes) * 1.003 + header + 100000 * 0.006);
  }
}

TEST_CASE("damaged bytes never do harm, and cuts are noticed") {
  std::mt19937 random(2);
  for (const char* kind : {"bh", "bl"}) {
    const auto coded = encode_bytes(sample(kind, 2000));
    std::vector<std::byte> out(2000);
    for (std::size_t size = 0; size < coded.size(); size += 1 + size / 16)
      CHECK(!decode_bytes(std::span(coded).first(size), out));
    CHECK(decode_bytes({}, out).error().code == ErrorCode::truncated);
    auto longer = coded;
    longer.push_back(std::byte{0});
    CHECK(!decode_bytes(longer, out));
    for (int round = 0; round < 500; ++round) {
      auto hurt = coded;
      hurt[random() % std::min<std::size_t>(hurt.size(), 300)] ^= static_cast<std::byte>(1 + random() % 255);
      (void)decode_bytes(hurt, out);
    }
  }
  const std::vector<std::byte> unknown{std::byte{2}, std::byte{0}};
  std::vector<std::byte> out(1);
  CHECK(decode_bytes(unknown, out).error().code == ErrorCode::corrupt);
  CHECK(!decode_bytes(encode_bytes(sample("bh", 2000)), {}));
}
