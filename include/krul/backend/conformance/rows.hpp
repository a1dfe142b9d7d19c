#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "krul/backend/kv_cache.hpp"
#include "krul/backend/owned_kv_rows.hpp"
#include "krul/core/geometry.hpp"
#include "krul/core/half.hpp"

namespace krul::conformance {

/// The rows `tokens` of `all`, whose first row is token 0.
inline KvRows rows_of(const OwnedKvRows& all, TokenRange tokens, std::size_t row_bytes) {
  const auto part = [&](const std::vector<std::byte>& bytes) {
    return std::span(bytes).subspan(tokens.begin * row_bytes, tokens.size() * row_bytes);
  };
  return {part(all.keys), part(all.values)};
}

inline bool same_bits(KvRows a, KvRows b) {
  return std::ranges::equal(a.keys, b.keys) && std::ranges::equal(a.values, b.values);
}

/// Random finite values, among them zeros of both signs and subnormals.
inline OwnedKvRows random_rows(const Geometry& geometry, std::size_t count, std::uint64_t seed) {
  const auto draw = [&](std::vector<std::byte>& bytes) {
    std::vector<float> values(count * geometry.kv_values());
    for (auto& value : values) {
      seed = seed * 6364136223846793005U + 1442695040888963407U;
      const auto bits = static_cast<std::uint32_t>(seed >> 32);
      const float fraction = static_cast<float>(static_cast<std::int32_t>(bits)) * 0x1p-31F;
      value = bits % 61 == 0 ? std::copysign(0.0F, fraction) : bits % 59 == 0 ? fraction * 0x1p-20F : 4 * fraction;
    }
    bytes.resize(count * geometry.kv_row_bytes());
    from_float(geometry.cache_type, values, bytes);
  };
  OwnedKvRows rows;
  draw(rows.keys);
  draw(rows.values);
  return rows;
}

template <KvCache C>
void write_rows(C& cache, std::size_t layer, TokenRange tokens, KvRows rows) {
  cache.wait(cache.write_kv(layer, tokens, rows));
}

/// How far rows of `width` values are from their reference: the largest distance of a row, over the root mean square
/// of the reference rows' distances from their own mean (a mean alone, as of logits, says nothing). Infinite if a value
/// is not finite.
inline double relative_difference(std::span<const float> rows, std::span<const float> reference, std::size_t width) {
  double largest = 0, spread = 0;
  for (std::size_t begin = 0; begin < reference.size(); begin += width) {
    const auto row = rows.subspan(begin, width), wanted = reference.subspan(begin, width);
    double mean = 0, distance = 0;
    for (const float value : wanted) mean += value / static_cast<double>(width);
    for (std::size_t i = 0; i < width; ++i) {
      distance += std::pow(static_cast<double>(row[i]) - wanted[i], 2);
      spread += std::pow(wanted[i] - mean, 2);
    }
    if (!std::isfinite(distance)) return std::numeric_limits<double>::infinity();
    largest = std::max(largest, distance);
  }
  if (largest == 0) return 0;
  return std::sqrt(largest / (spread / static_cast<double>(reference.size() / width)));
}

/// The same for the larger of K and V; `rows` and `reference` hold equally many.
inline double relative_difference(KvRows rows, KvRows reference, const Geometry& geometry) {
  const auto floats = [&](std::span<const std::byte> bytes) {
    std::vector<float> values(bytes.size() / size_of(geometry.cache_type));
    to_float(geometry.cache_type, bytes, values);
    return values;
  };
  return std::max(relative_difference(floats(rows.keys), floats(reference.keys), geometry.kv_values()),
                  relative_difference(floats(rows.values), floats(reference.values), geometry.kv_values()));
}

}  // namespace krul::conformance
