#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "../model/lanes.hpp"
#include "krul/backend/attention_observer.hpp"
#include "krul/similarity/attention_statistics.hpp"

namespace krul::detail {

inline constexpr std::size_t cell_keys = LentWeights::cell_keys;
inline constexpr std::size_t cell_bins = LentWeights::cell_bins;
static_assert(LentWeights::bin_keys == AttentionStatistics::bin_keys);

/// Rows are filled up with zeros to whole units: two vectors of bf16 at most, whole cache lines at least.
inline constexpr std::size_t row_unit = LentWeights::cell_unit;

/// What lies in a cell; the same for all layers.
struct Cell {
  std::uint16_t values = 0;  ///< that are there, in row_units
  std::uint16_t number = 0;  ///< of the cell within its row
};

/// Inner products of the layers' cells, in f32 over one run of cells, in double over runs, and sums over bins of keys.
/// A cell of all layers lies in one piece and fits the first-level cache while every pair of layers is multiplied; the
/// products' sums stream past it. Layers whose factor is 0 are left out.
class GramReducer {
 public:
  explicit GramReducer(std::size_t layers)
      : layers_(layers), gram_(layers * layers), sums_(layers * layers * lane_count), scales_(layers * layers) {}

  /// @param chunk  cells of all layers
  void add(const LentWeights::Chunk& chunk, std::span<const Cell> cells) {
    std::fill(sums_.begin(), sums_.end(), 0.0F);
    for (std::size_t at = 0; at < cells.size(); ++at) {
      const std::size_t count = cells[at].values;
      if (count == 0) continue;
      const float* const bins = chunk.bins + at * layers_ * cell_bins;
      const std::size_t first = cells[at].number * layers_ * cell_bins;
      mass_.resize(std::max(mass_.size(), first + layers_ * cell_bins));
      for (std::size_t i = 0; i < layers_ * cell_bins; ++i) mass_[first + i] += static_cast<double>(bins[i]);
      add_cell(chunk.values + at * layers_ * cell_keys, chunk.factors + at * layers_, count);
    }
    for (std::size_t i = 0; i < layers_; ++i)
      for (std::size_t j = i; j < layers_; ++j)
        gram_[i * layers_ + j] += static_cast<double>(sum_of(load(&sums_[(i * layers_ + j) * lane_count])));
  }

  /// Adds the squared distances of all that was added, and forgets it.
  /// @param squared  [L, L]
  void collect(std::span<double> squared) {
    for (std::size_t i = 0; i < layers_; ++i)
      for (std::size_t j = i + 1; j < layers_; ++j) {
        const double distance = gram_[i * layers_ + i] + gram_[j * layers_ + j] - 2 * gram_[i * layers_ + j];
        squared[i * layers_ + j] += std::max(distance, 0.0);
        squared[j * layers_ + i] += std::max(distance, 0.0);
      }
    std::fill(gram_.begin(), gram_.end(), 0.0);
  }

  /// Adds the sums over bins, and forgets them.
  /// @param mass  [L, bins]; bins that it has no room for are 0
  void collect_masses(std::span<double> mass) {
    const std::size_t bins = mass.size() / layers_;
    for (std::size_t i = 0; i < mass_.size(); ++i) {
      const std::size_t layer = i / cell_bins % layers_, bin = i / (layers_ * cell_bins) * cell_bins + i % cell_bins;
      if (bin < bins) mass[layer * bins + bin] += mass_[i];
    }
    mass_.clear();
  }

 private:
  // Layers a side of a register tile: their sums and operands fill the registers.
  static constexpr std::size_t tile = lane_count == 16 ? 5 : 3;

  /// Calls call.operator()<n>() with n = min(count, tile).
  template <class Call>
  static void with_count(std::size_t count, Call&& call) {
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      ((std::min(count, tile) == I + 1 ? call.template operator()<I + 1>() : void()), ...);
    }
    (std::make_index_sequence<tile>());
  }

  struct Row {
    const std::uint16_t* values;
    std::size_t layer;
    float factor;
  };

  /// @param values   [L, cell_keys]
  /// @param factors  [L]
  void add_cell(const std::uint16_t* values, const float* factors, std::size_t count) {
    rows_.clear();
    for (std::size_t layer = 0; layer < layers_; ++layer)
      if (factors[layer] != 0) rows_.push_back({values + layer * cell_keys, layer, factors[layer]});
    const std::size_t n = rows_.size();
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = i; j < n; ++j) scales_[i * layers_ + j] = rows_[i].factor * rows_[j].factor;
    const std::uint16_t* ahead = values + layers_ * cell_keys;
    for (std::size_t i = 0; i < n; i += tile)
      for (std::size_t j = i; j < n; j += tile, ahead += ahead_lines * cell_keys)
        with_count(n - j, [&]<std::size_t Columns>() {
          if (i == j)
            multiply<Columns, Columns, true>(i, j, count, ahead);
          else
            multiply<tile, Columns, false>(i, j, count, ahead);
        });
  }

#if defined(__AVX512BF16__)
  using Values = __m512bh;
  static constexpr std::size_t value_count = 32;
  static Values load_values(const std::uint16_t* from) {
    __m512i bits = _mm512_load_si512(from);
    return (__m512bh)bits;
  }
  static Lanes dot(Lanes sum, Values a, Values b) {
    return (Lanes)_mm512_dpbf16_ps((__m512)sum, a, b);
  }
#else
  using Values = Lanes;
  static constexpr std::size_t value_count = lane_count;
  static Values load_values(const std::uint16_t* from) {
    return load_as<ElementType::bf16>(reinterpret_cast<const std::byte*>(from));
  }
  static Lanes dot(Lanes sum, Values a, Values b) {
    return sum + a * b;
  }
#endif

  // Cache lines of the next cell that are fetched ahead for each that is multiplied: while the sums stream past, the
  // processor does not fetch it by itself.
  static constexpr std::size_t ahead_lines = 2;

  /// Adds the dot products of some of rows_ to their sums; those above the diagonal and on it only if Diagonal.
  /// @param ahead  [ahead_lines * count], will be needed soon if it is there at all
  template <std::size_t Rows, std::size_t Columns, bool Diagonal>
  void multiply(std::size_t first_row, std::size_t first_column, std::size_t count, const std::uint16_t* ahead) {
    const Row* const rows = &rows_[first_row];
    const Row* const columns = &rows_[first_column];
    Lanes sum[Rows][Columns] = {};
    for (std::size_t k = 0; k < count; k += value_count) {
      for (std::size_t line = 0; line < ahead_lines; ++line)
        __builtin_prefetch(ahead + ahead_lines * k + line * 32, 0, 2);
      Values right[Columns];
      for (std::size_t j = 0; j < Columns; ++j) right[j] = load_values(columns[j].values + k);
      for (std::size_t i = 0; i < Rows; ++i) {
        const Values left = Diagonal ? right[i] : load_values(rows[i].values + k);
        for (std::size_t j = Diagonal ? i : 0; j < Columns; ++j) sum[i][j] = dot(sum[i][j], left, right[j]);
      }
    }
    for (std::size_t i = 0; i < Rows; ++i)
      for (std::size_t j = Diagonal ? i : 0; j < Columns; ++j) {
        float* const to = &sums_[(rows[i].layer * layers_ + columns[j].layer) * lane_count];
        store(load(to) + sum[i][j] * scales_[(first_row + i) * layers_ + first_column + j], to);
      }
  }

  std::size_t layers_;
  std::vector<double> gram_;   // [L, L], on and above the diagonal
  std::vector<float> sums_;    // [L, L, lanes], likewise
  std::vector<float> scales_;  // [L, L] of one cell's products, by place in rows_
  std::vector<Row> rows_;      // of one cell: layers that count
  std::vector<double> mass_;   // [cells of a row, L, cell_bins]
};

/// Rounds weights to bf16, to nearest even. Past the processor's caches, as nobody reads them soon.
/// @param from  [n]
/// @param to    [count], count >= n in row_units; what has no weight becomes 0; aligned to 64 bytes
inline void pack_weights(std::span<const float> from, std::size_t count, std::uint16_t* to) {
  const auto pack = [](const float* weights, std::uint16_t* at) {
#if defined(__AVX512BF16__)
    const __m512bh packed = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(weights + 16), _mm512_loadu_ps(weights));
    _mm512_stream_si512(reinterpret_cast<__m512i*>(at), (__m512i)packed);
#else
    for (std::size_t k = 0; k < row_unit; k += lane_count) {
      IntLanes bits;
      std::memcpy(&bits, weights + k, sizeof bits);
      const IntLanes rounded = bits + 0x7fff + ((bits >> 16) & 1);  // weights are neither NaN nor negative
      const HalfLanes halves = __builtin_convertvector(rounded >> 16, HalfLanes);
      std::memcpy(at + k, &halves, sizeof halves);
    }
#endif
  };
  std::size_t k = 0;
  for (; k + row_unit <= from.size(); k += row_unit) pack(&from[k], to + k);
  if (k < count) {
    float part[row_unit] = {};
    std::memcpy(part, from.data() + k, (from.size() - k) * sizeof(float));
    pack(part, to + k);
  }
}

/// Makes what pack_weights wrote visible to a thread that is told of it afterwards.
inline void finish_packing() {
#if defined(__AVX512BF16__)
  _mm_sfence();
#endif
}

}  // namespace krul::detail
