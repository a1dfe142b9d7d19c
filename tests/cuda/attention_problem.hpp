#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <random>
#include <span>
#include <vector>

#include "cuda/fibre_grid.hpp"
#include "krul/core/element_type.hpp"
#include "krul/core/half.hpp"
#include "krul/cuda/attention_plan.hpp"
#include "krul/reference/attention.hpp"

namespace krul::cuda::test {

/// What attention of a batch gave.
struct Attended {
  std::vector<float> out, log_sums;  ///< [R, H, D], [R, H]
};

/// Random queries and a random cache; what lies behind the last position has the bits of NaNs.
struct AttentionProblem {
  Geometry geometry;
  std::vector<Position> positions;
  std::vector<float> queries;
  std::vector<std::uint32_t> keys, values;  // bytes as the cache has them, which begin aligned to 16

  AttentionProblem(const Geometry& shape, std::vector<Position> rows, std::mt19937_64& random)
      : geometry(shape), positions(std::move(rows)) {
    std::normal_distribution<float> normal;
    const auto fill = [&](std::size_t n) {
      std::vector<float> all(n);
      for (float& value : all) value = normal(random);
      return all;
    };
    queries = fill(positions.size() * row_values());
    for (auto* side : {&keys, &values}) {
      side->assign((seen() + 9) * geometry.kv_row_bytes() / 4, 0xffffffffU);
      from_float(geometry.cache_type, fill(seen() * geometry.kv_values()), bytes(*side));
    }
  }

  [[nodiscard]] std::size_t row_values() const { return geometry.query_heads * geometry.head_dim; }
  [[nodiscard]] std::size_t seen() const { return positions.back() + std::size_t{1}; }
  [[nodiscard]] std::span<std::byte> bytes(std::vector<std::uint32_t>& side) const {
    return std::as_writable_bytes(std::span(side)).first(seen() * geometry.kv_row_bytes());
  }
  [[nodiscard]] std::vector<double> doubles(const std::vector<std::uint32_t>& side) const {
    std::vector<float> floats(seen() * geometry.kv_values());
    to_float(geometry.cache_type, std::as_bytes(std::span(side)).first(seen() * geometry.kv_row_bytes()), floats);
    return {floats.begin(), floats.end()};
  }
  /// Of the cache's type: into one value of a key or value.
  void put(std::vector<std::uint32_t>& side, std::size_t at, float value) const {
    const std::size_t size = size_of(geometry.cache_type);
    from_float(geometry.cache_type, std::span(&value, 1),
               std::as_writable_bytes(std::span(side)).subspan(at * size, size));
  }

  [[nodiscard]] AttentionShape shape() const {
    const auto narrow = [](std::size_t n) { return static_cast<std::uint32_t>(n); };
    return {
        narrow(positions.size()), narrow(geometry.query_heads), narrow(geometry.kv_heads), narrow(geometry.head_dim),
        narrow(seen()),           geometry.cache_type};
  }
  [[nodiscard]] AttentionRows input() const {
    const AttentionShape sizes = shape();
    return {queries.data(), positions.data(), keys.data(), values.data(),         sizes.rows,
            sizes.heads,    sizes.kv_heads,   sizes.dim,   score_scale(sizes.dim)};
  }

  /// As kernels give it, with the results' values in `type`. Without sums, their logarithms stay 0.
  [[nodiscard]] Attended attend(ElementType type, const KeySplits& splits, std::uint64_t seed, bool sums = true) const {
    const AttentionPlan plan = plan_attention(shape(), splits);
    Attended result{std::vector<float>(queries.size()), std::vector<float>(positions.size() * geometry.query_heads)};
    constexpr float nan = std::numeric_limits<float>::quiet_NaN();
    std::vector<float> room(queries.size(), nan), parts(plan.parts_bytes / sizeof(float), nan);
    cuda::attend(input(), geometry.cache_type, {type, room.data(), sums ? result.log_sums.data() : nullptr, parts.data()}, plan,
                 [&](const auto& kernel, const Launch& launch) { run_grid(kernel, launch, seed); });
    to_float(type, std::as_bytes(std::span(room)).first(queries.size() * size_of(type)), result.out);
    return result;
  }

  /// The twin, of the queries as kernels round them.
  [[nodiscard]] reference::Attention expected() const { return expected_of(doubles(values)); }
  [[nodiscard]] reference::Attention expected_of(std::span<const double> of_values) const {
    const double dim = static_cast<double>(geometry.head_dim);
    std::vector<double> taken(queries.begin(), queries.end());
    if (geometry.cache_type != ElementType::f32)
      for (std::size_t i = 0; i < taken.size(); ++i) {
        const float scaled = queries[i] * score_scale(shape().dim);
        taken[i] = (geometry.cache_type == ElementType::f16 ? float_from_f16(f16_from_float(scaled))
                                                            : float_from_bf16(bf16_from_float(scaled))) *
                   (std::numbers::ln2 * std::sqrt(dim));
      }
    return reference::attention(geometry, positions, taken, doubles(keys), of_values);
  }

  /// The largest sum over d of |q_d k_d| log2(e) / sqrt(D) of any query and key: scores in base 2 are at most that.
  [[nodiscard]] double largest_score() const {
    const std::size_t dim = geometry.head_dim, heads = geometry.query_heads, group = heads / geometry.kv_heads;
    const std::vector<double> all_keys = doubles(keys);
    double largest = 0;
    for (std::size_t query = 0; query < positions.size() * heads; ++query)
      for (std::size_t key = 0; key <= positions[query / heads]; ++key) {
        double sum = 0;
        for (std::size_t d = 0; d < dim; ++d)
          sum += std::abs(static_cast<double>(queries[query * dim + d]) *
                          all_keys[(key * geometry.kv_heads + query % heads / group) * dim + d]);
        largest = std::max(largest, sum);
      }
    return largest * std::numbers::log2e / std::sqrt(static_cast<double>(dim)) *
           (1 + 2 * unit_roundoff(geometry.cache_type));
  }
};

/// Derived bounds, with u = 2^-24 and the queries as kernels round them. Sums in f32 may cut off instead of rounding,
/// so an addition counts 2 u.
struct AttentionBounds {
  static constexpr double u = 0x1p-24, exponential = 0x1p-22;

  /// A weight e^(score - top), not yet divided, is off by at most so much of itself. D additions, and for f32 two
  /// roundings of the scale, put a score off by (2 D + 4) u of the sum of its terms' sizes, and the difference to the
  /// top by 2 u more of it: as an exponent at most twice that times ln 2. exp2 follows, and each time that the top
  /// rises (each 32 keys, and when splits are joined) another difference, exp2 and product.
  double weight;
  /// The same, of the scores that kernels have.
  double softmax;
  /// And a sum of so many products, of the sum of their sizes; joined splits and the last product included.
  double sum;

  explicit AttentionBounds(const AttentionProblem& problem, const KeySplits& splits) {
    const double dim = static_cast<double>(problem.geometry.head_dim), keys = static_cast<double>(problem.seen());
    const double score = problem.largest_score(), rises = std::ceil(keys / 32) + 2, ln2 = std::numbers::ln2;
    softmax = 2 * ln2 * 2 * u * score + exponential + rises * (2 * ln2 * 2 * u * score + exponential + u);
    weight = 2 * ln2 * (2 * dim + 4) * u * score + softmax;
    sum = 2 * u * (keys + splits.count + 4);
  }
};

/// Sizes at random: heads that share keys, odd dimensions of heads, rows with gaps, more than a tile of them or one.
[[nodiscard]] inline AttentionProblem random_attention(ElementType type, std::mt19937_64& random) {
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  constexpr std::size_t dims[] = {16, 24, 64, 80, 96, 128, 256, 8, 40, 200};
  Geometry geometry{.layers = 1, .cache_type = type};
  geometry.kv_heads = 1 + below(3);
  geometry.query_heads = geometry.kv_heads * (1 + below(5));
  geometry.head_dim = dims[below(std::size(dims))];
  std::vector<Position> positions(1 + below(below(4) == 0 ? 40 : 6));
  auto position = static_cast<Position>(below(3) == 0 ? 0 : below(below(4) == 0 ? 300 : 90));
  for (Position& each : positions) {
    each = position;
    position += static_cast<Position>(1 + (below(6) == 0 ? below(70) : 0));
  }
  return {geometry, std::move(positions), random};
}

}  // namespace krul::cuda::test
