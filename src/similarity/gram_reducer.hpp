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

/// Rows are filled up with zeros to whole units: two vectors of bf16 at most, whole cache lines at least.
inline constexpr std::size_t row_unit = LentWeights::cell_unit;

/// What lies in a cell; the same for all layers.
struct Cell {
  std::uint16_t values = 0;  ///< that are there, in row_units
  std::uint16_t number = 0;  ///< of the cell within its row
};

/// Inner products of the layers' cells, and sums of their weights over bins of keys: in f32 over one run of cells, in
/// double over runs. A cell of all layers lies in one piece and fits the first-level cache while every pair of layers
/// is multiplied; the products' sums stream past it.
class GramReducer {
 public:
  explicit GramReducer(std::size_t layers)
      : layers_(layers), tiles_((layers + tile - 1) / tile), gram_(layers * layers), factors_(layers * layers) {
    sums_.resize(tiles_ * (tiles_ + 1) / 2 * tile * tile * lane_count);
  }

  /// @param values   [cells, L, cell_keys] bf16, aligned to 64 bytes
  /// @param factors  [cells, L] of each cell's values
  /// @param masses   whether to sum up bins too
  void add(const std::uint16_t* values, const float* factors, std::span<const Cell> cells, bool masses) {
    std::fill(sums_.begin(), sums_.end(), 0.0F);
    std::fill(bin_sums_.begin(), bin_sums_.end(), 0.0F);
    for (std::size_t at = 0; at < cells.size(); ++at, values += layers_ * cell_keys, factors += layers_) {
      const std::size_t count = cells[at].values;
      if (count == 0) continue;
      for (std::size_t i = 0; i < layers_; ++i)
        for (std::size_t j = i; j < layers_; ++j) factors_[i * layers_ + j] = factors[i] * factors[j];
      if (masses) add_bins(values, factors, cells[at]);
      const std::uint16_t* ahead = values + (at + 1 < cells.size() ? layers_ * cell_keys : 0);
      for_tiles([&](std::size_t i, std::size_t j, float* sums) {
        const float* const scale = &factors_[i * layers_ + j];
        with_count(layers_ - j, [&]<std::size_t Columns>() {
          const std::uint16_t* const b = values + j * cell_keys;
          if (i == j)
            multiply<Columns, Columns, true>({b, b, count, ahead, scale, sums});
          else
            multiply<tile, Columns, false>({values + i * cell_keys, b, count, ahead, scale, sums});
        });
        ahead += ahead_lines * cell_keys;
      });
    }
    for_tiles([&](std::size_t i, std::size_t j, const float* sums) {
      for (std::size_t a = 0; a < tile && i + a < layers_; ++a)
        for (std::size_t b = i == j ? a : 0; b < tile && j + b < layers_; ++b)
          gram_[(i + a) * layers_ + j + b] += static_cast<double>(sum_of(load(sums + (a * tile + b) * lane_count)));
    });
    mass_.resize(std::max(mass_.size(), bin_sums_.size() / lane_count));
    for (std::size_t i = 0; i * lane_count < bin_sums_.size(); ++i)
      mass_[i] += static_cast<double>(sum_of(load(&bin_sums_[i * lane_count])));
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
    for (std::size_t i = 0; i < mass_.size(); ++i)
      if (i / layers_ < bins) mass[i % layers_ * bins + i / layers_] += mass_[i];
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

  /// call(first layer of the rows, first of the columns, sums [tile, tile, lanes]) for each tile on or above the
  /// diagonal
  template <class Call>
  void for_tiles(Call&& call) {
    float* sums = sums_.data();
    for (std::size_t i = 0; i < layers_; i += tile)
      for (std::size_t j = i; j < layers_; j += tile, sums += tile * tile * lane_count) call(i, j, sums);
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

  struct Operands {
    const std::uint16_t* a;
    const std::uint16_t* b;
    std::size_t count;
    const std::uint16_t* ahead;  // [ahead_lines * count], will be needed soon; may end before that
    const float* scale;          // [rows, L], of the products
    float* sums;                 // [tile, tile, lanes]
  };

  /// sums[i, j] += scale[i, j] * dot product of the rows of a and b; those with i <= j only if Diagonal.
  template <std::size_t Rows, std::size_t Columns, bool Diagonal>
  void multiply(const Operands& operands) const {
    Lanes sum[Rows][Columns] = {};
    for (std::size_t k = 0; k < operands.count; k += value_count) {
      for (std::size_t line = 0; line < ahead_lines; ++line)
        __builtin_prefetch(operands.ahead + ahead_lines * k + line * 32, 0, 2);
      Values right[Columns];
      for (std::size_t j = 0; j < Columns; ++j) right[j] = load_values(operands.b + j * cell_keys + k);
      for (std::size_t i = 0; i < Rows; ++i) {
        const Values left = Diagonal ? right[i] : load_values(operands.a + i * cell_keys + k);
        for (std::size_t j = Diagonal ? i : 0; j < Columns; ++j) sum[i][j] = dot(sum[i][j], left, right[j]);
      }
    }
    for (std::size_t i = 0; i < Rows; ++i)
      for (std::size_t j = Diagonal ? i : 0; j < Columns; ++j) {
        float* const to = operands.sums + (i * tile + j) * lane_count;
        store(load(to) + sum[i][j] * operands.scale[i * layers_ + j], to);
      }
  }

  /// Adds a cell's weights to its bins, by a product with ones.
  void add_bins(const std::uint16_t* values, const float* factors, const Cell& cell) {
    constexpr std::size_t bin_keys = AttentionStatistics::bin_keys;
    const std::size_t first = cell.number * (cell_keys / bin_keys);
    const std::size_t end = first + (cell.values + bin_keys - 1) / bin_keys;
    if (bin_sums_.size() < end * layers_ * lane_count) bin_sums_.resize(end * layers_ * lane_count);
    alignas(64) std::uint16_t ones[value_count];
    std::fill_n(ones, value_count, std::uint16_t{0x3f80});
    const Values one = load_values(ones);
    for (std::size_t bin = first; bin < end; ++bin)
      for (std::size_t layer = 0; layer < layers_; ++layer) {
        Lanes sum{};
        const std::size_t begin = (bin - first) * bin_keys;
        for (std::size_t k = begin; k < std::min<std::size_t>(begin + bin_keys, cell.values); k += value_count)
          sum = dot(sum, load_values(values + layer * cell_keys + k), one);
        float* const to = &bin_sums_[(bin * layers_ + layer) * lane_count];
        store(load(to) + sum * factors[layer], to);
      }
  }

  std::size_t layers_;
  std::size_t tiles_;
  std::vector<double> gram_;  // [L, L], on and above the diagonal
  std::vector<float> factors_;  // [L, L] of one cell's products, on and above the diagonal
  std::vector<float> sums_;     // [tiles on or above the diagonal, tile, tile, lanes]
  std::vector<float> bin_sums_;  // [bins, L, lanes]
  std::vector<double> mass_;     // [bins, L]
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
