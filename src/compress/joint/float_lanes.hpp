#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace krul::detail {

/// Sixteen floats at a time, whatever the registers: one panel's columns. Internal to each file that includes this, as
/// one of them is compiled without fused multiplications.
constexpr std::size_t lane_count = 16;
using Lanes [[gnu::vector_size(lane_count * sizeof(float))]] = float;
using IntLanes [[gnu::vector_size(lane_count * sizeof(float))]] = std::int32_t;
using ShortLanes [[gnu::vector_size(lane_count * sizeof(std::int16_t))]] = std::int16_t;
using ByteLanes [[gnu::vector_size(lane_count)]] = std::int8_t;

static inline Lanes load(const float* from) {
  Lanes lanes;
  std::memcpy(&lanes, from, sizeof lanes);
  return lanes;
}

static inline void store(Lanes lanes, float* to) {
  std::memcpy(to, &lanes, sizeof lanes);
}

/// To nearest even, for magnitudes below 2^22: adding 1.5 * 2^23 leaves the whole number in the low bits.
static inline IntLanes round_to_whole(Lanes values) {
  const Lanes shifted = values + 12582912.0F;
  IntLanes bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  return bits - 0x4b400000;
}

}  // namespace krul::detail
