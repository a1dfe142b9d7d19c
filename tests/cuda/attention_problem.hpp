#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <random>
#include <span>
#include <vector>

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
  /// In memory that kernels of the place see, like all that follows.
  template <class Place>
  [[nodiscard]] AttentionRows input(Place& place) const {
    const AttentionShape sizes = shape();
    return {place.give(queries), place.give(positions), place.give(keys), place.give(values),    sizes.rows,
            sizes.heads,         sizes.kv_heads,        sizes.dim,        score_scale(sizes.dim)};
  }

  /// As kernels give it, with the results' values in `type`. Without sums, their logarithms stay 0.
  template <class Place>
  [[nodiscard]] Attended attend(Place&& place, ElementType type, const KeySplits& splits, bool sums = true) const {
    const AttentionPlan plan = plan_attention(shape(), splits);
    Attended result{std::vector<float>(queries.size()), std::vector<float>(positions.size() * geometry.query_heads)};
    float* const out = place.room(queries.size());
    float* const log_sums = sums ? place.room(result.log_sums.size()) : nullptr;
    cuda::attend(input(place), geometry.cache_type, {type, out, log_sums, place.room(plan.parts_bytes / sizeof(float))},
                 plan, [&](const auto& kernel, const Launch& launch) { place.run(kernel, launch); });
    const std::vector<float> bytes = place.take(out, queries.size());
    to_float(type, std::as_bytes(std::span(bytes)).first(queries.size() * size_of(type)), result.out);
    if (sums) result.log_sums = place.take(log_sums, result.log_sums.size());
    return result;
  }

  /// Of some rows, as kernels give them: [H, W, K].
  template <class Place>
  [[nodiscard]] std::vector<float> weights(Place&& place, const std::vector<float>& log_sums,
                                           const std::vector<std::uint32_t>& rows) const {
    const std::size_t last = positions[rows.back()] + std::size_t{1}, count = geometry.query_heads * rows.size() * last;
    float* const room = place.room(count);
    cuda::attention_weights(input(place), geometry.cache_type,
                            {place.give(rows), place.give(log_sums), room, static_cast<std::uint32_t>(rows.size()),
                             static_cast<std::uint32_t>(last)},
                            [&](const auto& kernel, const Launch& launch) { place.run(kernel, launch); });
    return place.take(room, count);
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

/// The largest part of what is allowed that any output is off by; above 1 if one is off by more. Weights are divided by
/// their sum, which is off like them; they are rounded to the cache's type, f16 below 2^-14 by 2^-25 of the top weight,
/// which the sum is at least; out is rounded last.
[[nodiscard]] inline double error_of(const AttentionProblem& problem, const Attended& found, ElementType out_type,
                                     const KeySplits& splits) {
  const ElementType type = problem.geometry.cache_type;
  const AttentionBounds bounds(problem, splits);
  const auto expected = problem.expected();
  auto sizes = problem.doubles(problem.values);
  double largest_value = 0;
  for (double& value : sizes) largest_value = std::max(largest_value, value = std::abs(value));
  const auto weighted = problem.expected_of(sizes).out;
  const double rounded = type == ElementType::f32 ? 0 : unit_roundoff(type);
  const double lost = type == ElementType::f16 ? 0x1p-25 * static_cast<double>(problem.seen()) * largest_value : 0;
  double worst = 0;
  for (std::size_t i = 0; i < found.out.size(); ++i) {
    // Products of these errors are below their sixty-fourth.
    const double off = ((2 * bounds.weight + 2 * bounds.sum + rounded) * weighted[i] + lost) * (1 + 0x1p-6);
    const double allowed = off + unit_roundoff(out_type) * (std::abs(expected.out[i]) + off) + 0x1p-25;
    const double error = std::abs(found.out[i] - expected.out[i]) / allowed;
    worst = std::isnan(error) ? std::numeric_limits<double>::infinity() : std::max(worst, error);
  }
  return worst;
}

/// The same of weights, and of what their rows sum to.
struct WeightErrors {
  double weight = 0, sum = 0;
};
[[nodiscard]] inline WeightErrors errors_of(const AttentionProblem& problem, const std::vector<std::uint32_t>& rows,
                                            std::span<const float> weights, const KeySplits& splits) {
  const AttentionBounds bounds(problem, splits);
  const std::size_t heads = problem.geometry.query_heads, last = problem.positions[rows.back()] + std::size_t{1};
  const double keys = static_cast<double>(problem.seen()), score = problem.largest_score();
  // log2 of a sum of `keys` terms, rounded itself and in the sum with the top, which the score is then subtracted from.
  const double logarithm = 2 * std::numbers::ln2 * AttentionBounds::u * (3 * std::log2(keys) + 3 * score);
  const double allowed = 2 * bounds.weight + bounds.sum + logarithm + AttentionBounds::exponential;
  // As AttentionWeights says.
  const double allowed_sum = 0x1p-22 * (keys / 32 + 8) * (2 + score) + 0x1p-23 * keys;
  const auto expected = problem.expected();
  constexpr double infinity = std::numeric_limits<double>::infinity();
  WeightErrors worst;
  for (std::size_t at = 0; at < heads * rows.size(); ++at) {
    const auto& twin = expected.weights[rows[at % rows.size()] * heads + at / rows.size()];
    double sum = 0;
    for (std::size_t key = 0; key < last; ++key) {
      const double found = weights[at * last + key], weight = key < twin.size() ? twin[key] : 0;
      const double error = key < twin.size() ? std::abs(found - weight) / (allowed * weight + 0x1p-126)
                           : found == 0      ? 0
                                             : infinity;
      worst.weight = std::isnan(error) ? infinity : std::max(worst.weight, error);
      sum += found;
    }
    worst.sum = std::max(worst.sum, std::abs(sum - 1) / allowed_sum);
  }
  return worst;
}

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

/// Some rows of a batch, at least one.
[[nodiscard]] inline std::vector<std::uint32_t> random_rows(const AttentionProblem& problem, std::mt19937_64& random) {
  std::vector<std::uint32_t> rows;
  for (std::uint32_t row = 0; row < problem.positions.size(); ++row)
    if (random() % 3 != 0) rows.push_back(row);
  if (rows.empty()) rows.push_back(0);
  return rows;
}

}  // namespace krul::cuda::test
