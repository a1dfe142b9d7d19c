#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "krul/core/geometry.hpp"
#include "krul/similarity/similarity_metric.hpp"

namespace krul {

struct ExactGramOptions {
  std::size_t most_bytes = std::size_t{1} << 30;  ///< of weights held at once
  std::size_t most_rows = 128;                    ///< of a block; the more there are, the fewer passes over the weights
  float negligible = 0x1p-12F;                    ///< cells of lent room with no weight above it count as 0; in [0, 1]
};

/// The paper's metric: squared distances of the layers' flattened weights, by way of their inner products.
///
/// The weights of all L layers of one block of query rows are kept as bf16, keys up to the query only; when the last
/// layer has delivered, G = A A^T of the block's A [L, H * rows * keys] goes into sums of doubles, and
/// D2(i, j) = G(i, i) + G(j, j) - 2 G(i, j). Weights come as rows of f32, or are written by the backend into room that
/// is lent; then the bins of masses are summed up here too, in the same walk over them.
///
/// A block of several rows is reduced by a thread that belongs to the metric while the forward pass goes on; a block
/// of one row, as in decoding, where it is taken in, and dropped.
///
/// Memory: 2 L H rows (N + 255) bytes a block and 4 % for factors and bins, and up to two blocks: the one that is
/// filled and the one that is reduced. It is bounded by `most_bytes`; block_rows shrinks where keys are many, so that
/// two blocks fit.
///
/// Error: a bf16 is within u = 2^-8 of its weight, so a distance d = |a_i - a_j| is off by at most u (|a_i| + |a_j|)
/// (the triangle inequality), and D2 also by n 2^-24 (G_ii + G_jj + 2 |G_ij|) with n = 288 sums in f32 in a row: 16 of
/// a cell, 256 cells, 16 lanes. A lent weight's factor adds 4 * 2^-24 to u.
/// Leaving out cells whose weights are at most t = `negligible` moves D2 by at most 4 t for each row and head: where i
/// is left out and j not, |a_j|^2 stands for |a_i - a_j|^2, off by |2 a_i a_j - |a_i|^2| <= t max(m_i, 2 m_j) with the
/// cell's masses m; where both are, |a_i - a_j|^2 <= t (m_i + m_j) is lost; and masses sum to 1. With 0 nothing is
/// left out.
///
/// On a device the same parts have other places: add copies a layer's rows to pinned host memory on a side stream and
/// the thread reduces there, or the rows stay and a kernel adds the [L, L] products of the block; one decode row of
/// all layers is compared by one small kernel. Neither changes what SimilarityMetric asks for.
/// @source distance and place of the work: second-hand; inner products, bf16 and blocks: ours
class ExactGram {
 public:
  /// @throws PreconditionError if there is no layer or head, most_rows is 0, or negligible lies outside [0, 1]
  explicit ExactGram(const Geometry& geometry, const ExactGramOptions& options = {});
  ExactGram(ExactGram&&) noexcept;
  ExactGram& operator=(ExactGram&&) noexcept;
  ~ExactGram();

  /// @throws PreconditionError if the rows of one pass need more than most_bytes; the metric is then of no more use
  void add(const AttentionRow& row);
  /// Room for the weights of some rows of a layer; the caller gives the batch's rows their slots. A pass may lend
  /// several times; end_block follows each.
  /// @param queries  [rows], ascending
  /// @throws PreconditionError as add, and if there are no rows or they do not ascend
  [[nodiscard]] LentWeights lend(std::size_t layer, std::span<const Position> queries);
  /// @throws PreconditionError if layers did not get the same rows
  void end_block(std::size_t layer);
  /// Waits for the reducing thread.
  /// @throws PreconditionError in the middle of a pass, or if squared is not [L, L]
  void collect(std::span<double> squared);
  /// Adds the masses on bins of keys of all rows that came through lent room, and forgets them.
  /// @param mass  [L, bins]
  /// @throws PreconditionError as collect
  void collect_masses(std::span<double> mass);
  /// At most most_rows, at least 1.
  [[nodiscard]] std::size_t block_rows(Position next) const;
  /// The most that was held so far.
  [[nodiscard]] std::size_t bytes() const;

 private:
  /// Waits for the reducing thread.
  void finish();

  struct State;
  std::unique_ptr<State> state_;
};
static_assert(LendingMetric<ExactGram>);

}  // namespace krul
