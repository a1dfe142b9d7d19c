#pragma once

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "krul/compress/joint/profile.hpp"
#include "krul/core/half.hpp"
#include "krul/core/identity.hpp"

namespace krul::testing {

/// A transform with random orthonormal columns, weights near the unit matrix times `precision`, and means.
struct TransformSample {
  std::size_t head_dim, heads, columns, features;
  double precision = 8;  ///< steps in a unit of value
};

[[nodiscard]] inline TensorTransform random_transform(const TransformSample& sample, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  const std::size_t n = sample.head_dim * sample.heads;
  TensorTransform tensor;
  for (std::size_t i = 0; i < n; ++i) tensor.mean.push_back(static_cast<float>(0.3 * normal(random)));
  for (std::size_t head = 0; head < sample.heads; ++head) {
    for (std::size_t row = 0; row < sample.head_dim; ++row)
      for (std::size_t column = 0; column <= row; ++column)
        tensor.weights.push_back(
            f16_from_float(static_cast<float>(row == column ? 1.0
                                                            : 0.3 * std::uniform_real_distribution<>(-1, 1)(random) /
                                                                  static_cast<double>(sample.head_dim))));
    tensor.weight_scales.push_back(static_cast<float>(sample.precision));
  }
  std::vector<std::vector<double>> basis;
  while (basis.size() < sample.columns) {  // Gram and Schmidt, twice
    std::vector<double> column(n);
    for (double& value : column) value = normal(random);
    for (int repeat = 0; repeat < 2; ++repeat) {
      for (const auto& other : basis) {
        double dot = 0;
        for (std::size_t i = 0; i < n; ++i) dot += column[i] * other[i];
        for (std::size_t i = 0; i < n; ++i) column[i] -= dot * other[i];
      }
      double length = 0;
      for (const double value : column) length += value * value;
      for (double& value : column) value /= std::sqrt(length);
    }
    basis.push_back(std::move(column));
  }
  const std::size_t wide = sample.columns / 2;
  for (std::size_t column = 0; column < sample.columns; ++column) {
    if (column < wide) {
      for (const double value : basis[column]) tensor.wide_basis.push_back(bf16_from_float(static_cast<float>(value)));
    } else {
      double largest = 0;
      for (const double value : basis[column]) largest = std::max(largest, std::abs(value));
      tensor.narrow_scales.push_back(static_cast<float>(largest / 127));
      for (const double value : basis[column])
        tensor.narrow_basis.push_back(static_cast<std::int8_t>(std::lround(value / largest * 127)));
    }
    for (std::size_t i = 0; i < sample.features; ++i)
      tensor.prediction.push_back(static_cast<std::int8_t>(static_cast<int>(random() % 255) - 127));
    if (sample.features > 0) tensor.prediction_scales.push_back(0.01F);
    tensor.spreads.push_back(static_cast<std::uint8_t>(33 - 16 * column / sample.columns));
    // Every fifth column is only predicted.
    tensor.tables.push_back(column % 5 == 4 ? std::uint8_t{3} : tensor.spreads.back());
  }
  return tensor;
}

/// Groups of these sizes over all layers of the geometry.
[[nodiscard]] inline ProfileData random_profile(const Geometry& geometry, const std::vector<std::size_t>& groups,
                                                std::size_t columns_of_layer, std::size_t features,
                                                std::uint64_t seed) {
  std::mt19937_64 random(seed);
  ProfileData data;
  data.model = "a model";
  data.geometry = describe(geometry);
  data.notes = "drawn at random";
  data.features = features;
  for (std::size_t i = 0; i < geometry.layers * 2 * geometry.kv_values(); ++i)
    data.first_row.push_back(f16_from_float(static_cast<float>(std::normal_distribution<double>()(random))));
  std::size_t first = 0;
  for (const std::size_t layers : groups) {
    const TransformSample sample{geometry.head_dim, layers * geometry.kv_heads, layers * columns_of_layer, features};
    data.groups.push_back({first, layers, random_transform(sample, random), random_transform(sample, random)});
    first += layers;
  }
  return data;
}

/// Four layers of two heads of 8.
[[nodiscard]] inline Geometry profile_geometry(ElementType type = ElementType::f32,
                                               RotaryPairs pairs = RotaryPairs::interleaved) {
  Geometry geometry;
  geometry.layers = 4;
  geometry.query_heads = 4;
  geometry.kv_heads = 2;
  geometry.head_dim = 8;
  geometry.hidden = 32;
  geometry.vocabulary = 64;
  geometry.context = 512;
  geometry.cache_type = type;
  geometry.rotary = {.pairs = pairs, .dimensions = 8, .base = 10000};
  return geometry;
}

}  // namespace krul::testing
