#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "krul/core/element_type.hpp"

namespace krul::reference {

/// The nearest value that `type` can hold, ties to even; beyond its range infinity; NaN stays NaN.
[[nodiscard]] inline double round_to(ElementType type, double value) {
  if (value == 0 || !std::isfinite(value)) return value;
  const int digits = type == ElementType::f32 ? 24 : type == ElementType::f16 ? 11 : 8;
  const int smallest_exponent = type == ElementType::f16 ? -14 : -126;
  const int exponent = std::max(std::ilogb(value), smallest_exponent);
  const double unit = std::ldexp(1.0, exponent - digits + 1);
  const double rounded = std::nearbyint(value / unit) * unit;
  const double limit = std::ldexp(1.0, type == ElementType::f16 ? 16 : 128);
  return std::abs(rounded) < limit ? rounded : std::copysign(std::numeric_limits<double>::infinity(), value);
}

/// What comes back when values of a cache are stored as another type: twin of FloatCodec.
[[nodiscard]] inline std::vector<double> store_as(ElementType stored, ElementType cache,
                                                  std::span<const double> values) {
  std::vector<double> back;
  for (const double value : values) back.push_back(round_to(cache, round_to(stored, value)));
  return back;
}

/// One head of one token as Int8Codec holds it.
struct Int8Head {
  double peak = 0;         ///< largest magnitude, as stored; NaN if the head had a value that is not finite
  std::vector<int> codes;  ///< [D], in [-127, 127]
};

/// Twin of Int8Codec::encode for one head.
[[nodiscard]] inline Int8Head int8_encode(ElementType cache, std::span<const double> head) {
  Int8Head coded{0, std::vector<int>(head.size(), 0)};
  for (const double value : head) {
    if (!std::isfinite(value)) coded.peak = std::numeric_limits<double>::quiet_NaN();
    if (std::abs(value) > coded.peak) coded.peak = std::abs(value);
  }
  if (cache == ElementType::f32 && coded.peak < 0x1p-126) coded.peak = 0;
  if (cache == ElementType::f32 && coded.peak > 0) {  // nine significant bits, rounded up
    const double unit = std::ldexp(1.0, std::ilogb(coded.peak) - 8);
    coded.peak = std::min(std::ceil(coded.peak / unit) * unit, (1 - 0x1p-9) * 0x1p128);
  }
  if (coded.peak > 0)
    for (std::size_t i = 0; i < head.size(); ++i)
      coded.codes[i] = static_cast<int>(std::nearbyint(127 * head[i] / coded.peak));
  return coded;
}

/// Twin of Int8Codec::decode for one head.
[[nodiscard]] inline std::vector<double> int8_decode(ElementType cache, const Int8Head& coded) {
  std::vector<double> values;
  for (const int code : coded.codes) values.push_back(round_to(cache, code * coded.peak / 127));
  return values;
}

/// One group of at most 32 values as Int4Codec holds it.
struct Int4Group {
  double peak = 0;         ///< the value of largest magnitude, as stored; NaN if a value was not finite
  std::vector<int> codes;  ///< in [0, 15]; code q stands for (8 - q) * peak / 8
};

/// Twin of Int4Codec::encode for one group.
[[nodiscard]] inline Int4Group int4_encode(ElementType cache, std::span<const double> group) {
  Int4Group coded{0, std::vector<int>(group.size(), 0)};
  for (const double value : group) {
    if (!std::isfinite(value)) return {std::numeric_limits<double>::quiet_NaN(), coded.codes};
    const bool larger = std::abs(value) > std::abs(coded.peak);
    if (larger || (std::abs(value) == std::abs(coded.peak) && value > 0)) coded.peak = value;
  }
  if (cache == ElementType::f32 && std::abs(coded.peak) < 0x1p-126) coded.peak = 0;
  if (cache == ElementType::f32 && coded.peak != 0) {  // eight significant bits, away from zero
    const double unit = std::ldexp(1.0, std::ilogb(coded.peak) - 7);
    const double magnitude = std::min(std::ceil(std::abs(coded.peak) / unit) * unit, (1 - 0x1p-8) * 0x1p128);
    coded.peak = std::copysign(magnitude, coded.peak);
  }
  if (coded.peak != 0)
    for (std::size_t i = 0; i < group.size(); ++i)
      coded.codes[i] = std::min(15, 8 - static_cast<int>(std::nearbyint(8 * group[i] / coded.peak)));
  return coded;
}

/// Twin of Int4Codec::decode for one group.
[[nodiscard]] inline std::vector<double> int4_decode(ElementType cache, const Int4Group& coded) {
  std::vector<double> values;
  for (const int code : coded.codes) values.push_back(round_to(cache, (8 - code) * coded.peak / 8));
  return values;
}

}  // namespace krul::reference
