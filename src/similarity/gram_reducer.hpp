#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "krul/backend/attention_observer.hpp"
#include "krul/core/processor.hpp"
#include "krul/similarity/attention_statistics.hpp"
#include "similarity_loops.hpp"

namespace krul::detail {

inline constexpr std::size_t cell_keys = LentWeights::cell_keys;
inline constexpr std::size_t cell_bins = LentWeights::cell_bins;
static_assert(LentWeights::bin_keys == AttentionStatistics::bin_keys);

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
      : layers_(layers),
        loops_(similarity_loops(instruction_level())),
        gram_(layers * layers),
        sums_(layers * layers * loops_.lanes),
        scales_(layers * layers) {}

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
        gram_[i * layers_ + j] += static_cast<double>(loops_.sum_of_lanes(&sums_[(i * layers_ + j) * loops_.lanes]));
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
  /// @param values   [L, cell_keys]
  /// @param factors  [L]
  void add_cell(const std::uint16_t* values, const float* factors, std::size_t count) {
    rows_.clear();
    for (std::size_t layer = 0; layer < layers_; ++layer)
      if (factors[layer] != 0) rows_.push_back({values + layer * cell_keys, layer, factors[layer]});
    const std::size_t n = rows_.size();
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = i; j < n; ++j) scales_[i * layers_ + j] = rows_[i].factor * rows_[j].factor;
    loops_.multiply_cell({.rows = rows_.data(),
                          .n = n,
                          .count = count,
                          .scales = scales_.data(),
                          .layers = layers_,
                          .ahead = values + layers_ * cell_keys,
                          .sums = sums_.data()});
  }

  std::size_t layers_;
  const SimilarityLoops& loops_;
  std::vector<double> gram_;   // [L, L], on and above the diagonal
  std::vector<float> sums_;    // [L, L, lanes], likewise
  std::vector<float> scales_;  // [L, L] of one cell's products, by place in rows_
  std::vector<CellRow> rows_;  // of one cell: layers that count
  std::vector<double> mass_;   // [cells of a row, L, cell_bins]
};

}  // namespace krul::detail
