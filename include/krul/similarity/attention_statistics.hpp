#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/core/tokens.hpp"

namespace krul {

/// What a conversation's attention looked like: how far apart each two layers' weights are, and where they fall.
///
/// Everything is a sum over query rows, so that statistics of later turns are added to those of earlier ones.
/// @source the distance (Euclidean, of flattened weights) and the two ends of the sequence: second-hand; sums over rows
///         and per-bin masses: ours
struct AttentionStatistics {
  /// Key positions that share a bin of masses: fine enough to cut off a tenth at any length, 64 times smaller than
  /// columns.
  static constexpr std::size_t bin_keys = 64;

  std::size_t layers = 0;       ///< L
  std::size_t query_heads = 0;  ///< H
  std::uint64_t rows = 0;       ///< query positions that were counted, or that the counted ones stand for
  std::vector<double> squared;  ///< [L, L] symmetric: sum over rows and heads of |weights of i - weights of j|^2
  std::vector<double> mass;     ///< [L, bins] sum over rows and heads of the weight on the keys of a bin

  AttentionStatistics() = default;
  AttentionStatistics(std::size_t layer_count, std::size_t query_head_count)
      : layers(layer_count), query_heads(query_head_count), squared(layer_count * layer_count) {}

  [[nodiscard]] std::size_t bins() const noexcept { return layers == 0 ? 0 : mass.size() / layers; }

  /// Makes room for masses on keys 0 .. keys-1; never shrinks.
  void reserve_keys(std::size_t keys) {
    const std::size_t before = bins(), wanted = (keys + bin_keys - 1) / bin_keys;
    if (wanted <= before) return;
    std::vector<double> wider(layers * wanted);
    for (std::size_t layer = 0; layer < layers; ++layer)
      std::copy_n(mass.begin() + static_cast<std::ptrdiff_t>(layer * before), before,
                  wider.begin() + static_cast<std::ptrdiff_t>(layer * wanted));
    mass = std::move(wider);
  }

  /// Euclidean distance of the flattened attention weights of two layers.
  /// @throws PreconditionError if there is no such layer
  [[nodiscard]] double distance(std::size_t i, std::size_t j) const {
    expects(i < layers && j < layers, "AttentionStatistics: no such layer");
    return std::sqrt(std::max(squared[i * layers + j], 0.0));
  }

  /// Mass on keys 0 .. keys-1 of a conversation of `length` tokens; within a bin as if spread evenly.
  /// @throws PreconditionError if there is no such layer
  [[nodiscard]] double mass_before(std::size_t layer, double keys, std::size_t length) const {
    expects(layer < layers, "AttentionStatistics: no such layer");
    double sum = 0;
    for (std::size_t bin = 0; bin < bins(); ++bin) {
      const auto begin = static_cast<double>(bin * bin_keys);
      const double width = std::min(static_cast<double>(bin_keys), static_cast<double>(length) - begin);
      if (keys <= begin || width <= 0) break;
      sum += mass[layer * bins() + bin] * std::min(1.0, (keys - begin) / width);
    }
    return sum;
  }

  /// Mean over heads and query rows of the weight on the first and the last `share` of the keys, in [0, 1].
  /// @param length  tokens of the conversation; 0 rows give 0
  /// @throws        PreconditionError if there is no such layer or share is outside [0, 1]
  [[nodiscard]] double edge_mass(std::size_t layer, std::size_t length, double share = 0.1) const {
    expects(share >= 0 && share <= 1, "AttentionStatistics: share must lie in [0, 1]");
    expects(layer < layers, "AttentionStatistics: no such layer");
    if (rows == 0) return 0;
    const auto all = static_cast<double>(length);
    const double edge = std::min(share, 0.5) * all;
    const double sum =
        mass_before(layer, edge, length) + mass_before(layer, all, length) - mass_before(layer, all - edge, length);
    return sum / (static_cast<double>(rows) * static_cast<double>(query_heads));
  }

  /// Adds the statistics of other rows of the same conversation. Those without a layer are nothing.
  /// @throws PreconditionError if layers or heads differ
  void add(const AttentionStatistics& other) {
    if (other.layers == 0) return;
    if (layers == 0) *this = AttentionStatistics(other.layers, other.query_heads);
    expects(layers == other.layers && query_heads == other.query_heads,
            "AttentionStatistics: statistics of another model");
    rows += other.rows;
    for (std::size_t i = 0; i < squared.size(); ++i) squared[i] += other.squared[i];
    reserve_keys(other.bins() * bin_keys);
    for (std::size_t layer = 0; layer < layers; ++layer)
      for (std::size_t bin = 0; bin < other.bins(); ++bin)
        mass[layer * bins() + bin] += other.mass[layer * other.bins() + bin];
  }

  friend bool operator==(const AttentionStatistics&, const AttentionStatistics&) = default;
};

/// Bytes that parse_attention_statistics reads: little-endian, version 1; f32 for the distances above the diagonal and
/// for the masses, so that each loses up to 2^-24 of itself whenever it is saved: less than what observing loses.
/// Sums that do not fit an f32 are written as the largest one. About 4 (L^2 / 2 + L N / 64) bytes.
/// @throws PreconditionError if the sizes of the vectors do not fit the layers
[[nodiscard]] std::vector<std::byte> serialize(const AttentionStatistics& statistics);

/// Errors: truncated, corrupt, unsupported_version, too_large (above 4,096 layers or heads, or 2^24 keys). Any change
/// to the bytes is an error. Nothing is allocated before the sizes were compared with the bytes that are there.
[[nodiscard]] Result<AttentionStatistics> parse_attention_statistics(std::span<const std::byte> bytes);

}  // namespace krul
