#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "krul/backend/owned_kv_rows.hpp"
#include "krul/compress/joint_transform.hpp"
#include "krul/core/half.hpp"
#include "krul/core/identity.hpp"
#include "krul/simulate/model_shape.hpp"

namespace krul::bench {

/// The sizes of one group of layers that are coded together.
struct GroupShape {
  std::string_view model;
  std::size_t layers;     ///< of the group
  std::size_t columns;    ///< coefficients of a row of K, and of V
  bool predicted = true;  ///< whether tokens predict their rows
  std::uint64_t seed = 1;
};

[[nodiscard]] inline Geometry geometry_of(const simulate::ModelShape& shape, std::size_t layers) {
  Geometry geometry{.layers = layers,
                    .query_heads = shape.query_heads,
                    .kv_heads = shape.kv_heads,
                    .head_dim = shape.head_dim,
                    .cache_type = ElementType::f16};
  geometry.hidden = shape.hidden;
  geometry.vocabulary = shape.vocabulary;
  geometry.context = 32768;
  geometry.rotary = {.pairs = RotaryPairs::halves, .dimensions = shape.head_dim, .base = 1000000};
  return geometry;
}

/// A transform of random numbers: decoding takes as long as with a fitted one. Columns have unit length, and are nearly
/// orthogonal as there are many values.
class DrawnTransform {
 public:
  DrawnTransform(const Geometry& geometry, const GroupShape& group)
      : heads_(group.layers * geometry.kv_heads),
        dim_(geometry.head_dim),
        columns_(group.columns),
        features_(group.predicted ? geometry.hidden : 0),
        random_(group.seed) {}

  [[nodiscard]] TensorTransform draw() {
    TensorTransform tensor;
    const std::size_t n = heads_ * dim_, wide = columns_ / 2;
    tensor.mean.assign(n, 0.1F);
    for (std::size_t head = 0; head < heads_; ++head) {
      for (std::size_t row = 0; row < dim_; ++row)
        for (std::size_t column = 0; column <= row; ++column)
          tensor.weights.push_back(f16_from_float(row == column ? 1.0F : sign() * 0.1F / static_cast<float>(dim_)));
      tensor.weight_scales.push_back(8);  // steps in a unit of value
    }
    const float length = 1 / std::sqrt(static_cast<float>(n));
    for (std::size_t i = 0; i < wide * n; ++i) tensor.wide_basis.push_back(bf16_from_float(sign() * length));
    for (std::size_t i = 0; i < (columns_ - wide) * n; ++i)
      tensor.narrow_basis.push_back(random_() % 2 == 0 ? std::int8_t{127} : std::int8_t{-127});
    tensor.narrow_scales.assign(columns_ - wide, length / 127);
    for (std::size_t i = 0; i < columns_ * features_; ++i)
      tensor.prediction.push_back(static_cast<std::int8_t>(static_cast<int>(random_() % 255) - 127));
    if (features_ > 0) tensor.prediction_scales.assign(columns_, 0.02F / std::sqrt(static_cast<float>(features_)));
    for (std::size_t column = 0; column < columns_; ++column)
      tensor.spreads.push_back(static_cast<std::uint8_t>(33 - 16 * column / columns_));
    tensor.tables = tensor.spreads;
    return tensor;
  }

 private:
  float sign() { return random_() % 2 == 0 ? 1.0F : -1.0F; }

  std::size_t heads_, dim_, columns_, features_;
  std::mt19937_64 random_;
};

/// A group's chunks of random rows, and what decodes them.
struct DrawnChunks {
  static constexpr std::size_t rows = 64;  ///< of a chunk

  Geometry geometry;
  std::shared_ptr<const Profile> profile;
  std::vector<float> features;                 ///< [rows, F], the same for all chunks
  std::vector<std::vector<std::byte>> chunks;  ///< of rows that follow each other, not from the first on

  /// @return as Profile::create
  [[nodiscard]] static Result<DrawnChunks> draw(const GroupShape& group, std::size_t count) {
    DrawnChunks drawn;
    const Geometry geometry = drawn.geometry = geometry_of(*simulate::model_shape(group.model), group.layers);
    ProfileData data;
    data.model = std::string(group.model);
    data.geometry = describe(geometry);
    data.notes = "drawn at random";
    data.features = group.predicted ? geometry.hidden : 0;
    data.first_row.assign(geometry.layers * 2 * geometry.kv_values(), f16_from_float(0.5F));
    DrawnTransform transform(geometry, group);
    data.groups.push_back({0, group.layers, transform.draw(), transform.draw()});
    auto profile = Profile::create(std::move(data), geometry);
    if (!profile) return propagate(profile);
    drawn.profile = *profile;

    std::mt19937_64 random(group.seed);
    std::normal_distribution<float> normal;
    for (std::size_t i = 0; i < rows * drawn.profile->data().features; ++i) drawn.features.push_back(normal(random));
    std::vector<OwnedKvRows> layers;
    std::vector<KvRows> views;
    std::vector<float> values(rows * geometry.kv_values());
    for (std::size_t layer = 0; layer < geometry.layers; ++layer) {
      auto& of = layers.emplace_back(geometry, rows);
      for (auto* to : {&of.keys, &of.values}) {
        for (float& value : values) value = normal(random);
        from_float(geometry.cache_type, values, *to);
      }
    }
    for (const OwnedKvRows& each : layers) views.push_back({each.keys, each.values});
    const JointTransform coding(drawn.profile, 0, StepScale{8});
    for (std::size_t i = 1; i <= count; ++i)
      drawn.chunks.push_back(coding.encode(geometry, views, {static_cast<Position>(i * rows), drawn.features, {}}));
    return drawn;
  }

  /// Bytes that the rows of a chunk take in the cache.
  [[nodiscard]] std::size_t row_bytes() const { return rows * geometry.layers * 2 * geometry.kv_row_bytes(); }
};

}  // namespace krul::bench
