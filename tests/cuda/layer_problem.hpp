#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include "cuda/fibre_grid.hpp"
#include "krul/core/element_type.hpp"
#include "krul/core/half.hpp"

namespace krul::cuda::test {

inline constexpr double f32_roundoff = 0x1p-24;

/// Values of a type as kernels see them, aligned as a device's memory is. Those behind have the bits of NaNs.
class TypedValues {
 public:
  static constexpr std::size_t behind = 8;

  TypedValues(ElementType type, std::size_t count)
      : type_(type), count_(count), words_(((count + behind) * size_of(type) + 3) / 4, 0xffffffffU) {}
  TypedValues(ElementType type, std::span<const float> values) : TypedValues(type, values.size()) {
    from_float(type, values, std::as_writable_bytes(std::span(words_)).first(count_ * size_of(type)));
  }

  [[nodiscard]] ElementType type() const { return type_; }
  [[nodiscard]] void* data() { return words_.data(); }
  [[nodiscard]] const void* data() const { return words_.data(); }
  [[nodiscard]] std::vector<double> doubles() const {
    std::vector<float> floats(count_);
    to_float(type_, std::as_bytes(std::span(words_)).first(count_ * size_of(type_)), floats);
    return {floats.begin(), floats.end()};
  }
  /// Whether some values still have the bits that all of them began with.
  [[nodiscard]] bool untouched(std::size_t first, std::size_t count) const {
    const auto bytes = std::as_bytes(std::span(words_)).subspan(first * size_of(type_), count * size_of(type_));
    return std::ranges::all_of(bytes, [](std::byte each) { return each == std::byte{0xff}; });
  }
  [[nodiscard]] bool untouched_behind() const { return untouched(count_, behind); }

 private:
  ElementType type_;
  std::size_t count_;
  std::vector<std::uint32_t> words_;
};

/// What rounding to a type may put a value off by: u of it, or half of the smallest step where it is subnormal.
[[nodiscard]] inline double rounding(ElementType type, double value) {
  const double smallest = type == ElementType::f16 ? 0x1p-25 : type == ElementType::bf16 ? 0x1p-134 : 0x1p-150;
  return unit_roundoff(type) * std::abs(value) + smallest;
}

/// A value within a bound of what it should be; the largest part of the bound that any of them needed.
class Closeness {
 public:
  [[nodiscard]] bool within(double found, double expected, double allowed) {
    const double off = std::abs(found - expected);
    if (!(off <= allowed)) return false;
    worst_ = std::max(worst_, allowed > 0 ? off / allowed : 0);
    return true;
  }
  [[nodiscard]] double worst() const { return worst_; }

 private:
  double worst_ = 0;
};

[[nodiscard]] inline std::vector<float> random_values(std::size_t count, double size, std::mt19937_64& random) {
  std::normal_distribution<double> normal(0, size);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(normal(random));
  return values;
}
[[nodiscard]] inline std::vector<double> doubles_of(std::span<const float> values) {
  return {values.begin(), values.end()};
}

}  // namespace krul::cuda::test
