#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <random>
#include <string_view>
#include <vector>

#include "krul/core/geometry.hpp"
#include "krul/core/half.hpp"

namespace krul::testing {

/// Only what a codec looks at.
[[nodiscard]] inline Geometry kv_geometry(ElementType type, std::size_t heads = 3, std::size_t head_dim = 64) {
  Geometry geometry;
  geometry.layers = 1;
  geometry.kv_heads = heads;
  geometry.head_dim = head_dim;
  geometry.cache_type = type;
  return geometry;
}

[[nodiscard]] inline double largest_value(ElementType type) {
  return type == ElementType::f16    ? 65504.0
         : type == ElementType::bf16 ? 0x1.fep127
                                     : std::numeric_limits<float>::max();
}
[[nodiscard]] inline double smallest_normal(ElementType type) {
  return type == ElementType::f16 ? 0x1p-14 : 0x1p-126;
}
[[nodiscard]] inline double smallest_subnormal(ElementType type) {
  return type == ElementType::f16 ? 0x1p-24 : type == ElementType::bf16 ? 0x1p-133 : 0x1p-149;
}

/// Finite values [rows, G, D] of the cache's type; each head of a family looks different.
struct KvFamily {
  std::string_view name;
  double (*value)(std::mt19937_64&, ElementType);
};

[[nodiscard]] inline double unit_normal(std::mt19937_64& random) {
  return std::normal_distribution<double>()(random);
}

inline const KvFamily kv_families[] = {
    {"normal", [](std::mt19937_64& random, ElementType) { return unit_normal(random); }},
    {"heavy-tailed", [](std::mt19937_64& random, ElementType) { return std::pow(unit_normal(random), 7); }},
    {"constant", [](std::mt19937_64&, ElementType) { return -0.3; }},
    {"zero", [](std::mt19937_64& random, ElementType) { return random() % 2 ? 0.0 : -0.0; }},
    {"many scales", [](std::mt19937_64& random,
                       ElementType) { return std::ldexp(unit_normal(random), static_cast<int>(random() % 24) - 16); }},
    {"subnormal", [](std::mt19937_64& random,
                     ElementType type) { return smallest_subnormal(type) * static_cast<double>(random() % 600); }},
    {"huge", [](std::mt19937_64& random,
                ElementType type) { return largest_value(type) * (static_cast<double>(random() % 2001) / 1000 - 1); }},
};

/// values [n] as a cache of this type holds them.
[[nodiscard]] inline std::vector<std::byte> to_bytes(ElementType type, const std::vector<double>& values) {
  std::vector<float> floats(values.begin(), values.end());
  std::vector<std::byte> bytes(values.size() * size_of(type));
  from_float(type, floats, bytes);
  return bytes;
}

[[nodiscard]] inline std::vector<double> to_doubles(ElementType type, const std::vector<std::byte>& bytes) {
  std::vector<float> floats(bytes.size() / size_of(type));
  to_float(type, bytes, floats);
  return {floats.begin(), floats.end()};
}

[[nodiscard]] inline std::vector<std::byte> kv_rows(const KvFamily& family, const Geometry& geometry, std::size_t rows,
                                                    std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<double> values(rows * geometry.kv_values());
  for (double& value : values) value = family.value(random, geometry.cache_type);
  return to_bytes(geometry.cache_type, values);
}

/// Bytes of any kind: NaN payloads, infinities, subnormals.
[[nodiscard]] inline std::vector<std::byte> any_bytes(std::size_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random() & 0xffU);
  return bytes;
}

inline constexpr ElementType all_types[] = {ElementType::f32, ElementType::f16, ElementType::bf16};

}  // namespace krul::testing
