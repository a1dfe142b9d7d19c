#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "krul/core/error.hpp"

namespace krul {

/// How much attention each row of a conversation has received lately: what tells how finely it is worth coding.
///
/// An error in a row's K or V moves an output by about the row's weight, and independent errors add up as squares. So
/// what counts is the sum of squared weights over the heads and layers of a band of neighbouring layers. What comes
/// next attends much like what came last, so that what was seen before counts less and less.
/// @source ours; that few rows receive most of the attention: H2O, arXiv:2306.14048 (second-hand)
struct RowAttention {
  /// Query rows after which what they saw counts half.
  static constexpr double half_life = 16;

  std::vector<std::size_t> band_layers;  ///< [bands] neighbouring layers of each, from layer 0 on; L in all
  std::size_t rows = 0;                  ///< N: keys that were seen
  double counted = 0;                    ///< query rows, each by 2^(-age / half_life)
  std::vector<float> squares;            ///< [bands][N]: sum of squared weights over them, by the same factor

  RowAttention() = default;
  explicit RowAttention(std::vector<std::size_t> layers_of_bands) : band_layers(std::move(layers_of_bands)) {}

  [[nodiscard]] std::size_t bands() const noexcept { return band_layers.size(); }

  /// Makes room for keys 0 .. keys-1; never shrinks.
  void reserve_rows(std::size_t keys);
  /// Forgets the keys from `keys` on.
  void truncate(std::size_t keys);
  /// So many more query rows have come: what was seen is as much older.
  void age(std::size_t query_rows);
  /// What a query row counts after so many others.
  [[nodiscard]] static double weight_of_age(std::size_t query_rows) noexcept;

  /// What a query row gives to a key in the mean.
  /// @throws PreconditionError if there is no such band or row
  [[nodiscard]] double received(std::size_t band, std::size_t row) const;

  friend bool operator==(const RowAttention&, const RowAttention&) = default;

 private:
  void set_rows(std::size_t keys);
};

/// Bytes that parse_row_attention reads: one for each band and row, the logarithm of its sum to an eighth; and 32 more,
/// with four for each band.
[[nodiscard]] std::vector<std::byte> serialize(const RowAttention& attention);

/// @return truncated, corrupt, unsupported_version, or too_large above 4,096 bands or 2^24 rows. Nothing is allocated
///         before the sizes were compared with the bytes that are there
[[nodiscard]] Result<RowAttention> parse_row_attention(std::span<const std::byte> bytes);

}  // namespace krul
