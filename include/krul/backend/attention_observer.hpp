#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

#include "krul/core/tokens.hpp"

namespace krul {

/// One block of attention weights as the model computed them.
struct AttentionBlock {
  std::size_t layer = 0;
  std::span<const Position> queries;  ///< [R] positions of the query rows
  std::size_t keys = 0;               ///< K: key positions 0 .. K-1
  std::size_t query_heads = 0;        ///< H
  std::span<const float> weights;     ///< [H, R, K], each row sums to 1; 0 where causality forbids
};

/// Sees softmax rows while the model runs. Called from the thread that calls attend, block after block; the weights are
/// valid only during the call.
template <class O>
concept AttentionObserver = requires(O& observer, const AttentionBlock& block) {
  { observer(block) } -> std::same_as<void>;
};

/// An observer that needs only some query rows and says which: backends may leave the others out of its blocks.
template <class O>
concept SelectiveObserver = AttentionObserver<O> && requires(const O& observer, Position query) {
  { observer.wants(query) } -> std::same_as<bool>;
};

/// Room that an observer lends for one layer's weights, so that the backend writes them once, in bf16, where they are
/// needed, and not before they are.
///
/// The keys are cut into cells of cell_keys, and these into bins of bin_keys. The weights of one row and head on the
/// keys of a cell are `factor` times the bf16 values written there: all up to the query's own key, then zeros up to a
/// multiple of cell_unit; what lies beyond is not touched. The factor is 0, and the values need not be there, if no
/// weight is above `negligible`. Bins get their sums of weights in any case. Cells of all layers lie side by side in
/// chunks of chunk_cells.
struct LentWeights {
  static constexpr std::size_t cell_keys = 256;
  static constexpr std::size_t cell_unit = 32;
  static constexpr std::size_t bin_keys = 64;
  static constexpr std::size_t cell_bins = cell_keys / bin_keys;
  static constexpr std::uint32_t no_slot = 0xffffffff;

  struct Chunk {
    std::uint16_t* values = nullptr;  ///< [chunk_cells, L, cell_keys] bf16, aligned to 64 bytes
    float* factors = nullptr;         ///< [chunk_cells, L]
    float* bins = nullptr;            ///< [chunk_cells, L, cell_bins]
  };
  /// One row, head and layer's part of a cell.
  struct Cell {
    std::uint16_t* values;  ///< [cell_keys]
    float* factor;
    float* bins;  ///< [cell_bins]; of bins that begin behind the query's key 0 or untouched
  };

  std::size_t layer = 0;
  std::size_t layers = 0;                ///< L
  std::span<const std::uint32_t> slots;  ///< [R] of each row of the batch: its place among the wanted ones, or no_slot
  std::span<const std::uint32_t> cells;  ///< [places + 1], from 0: cells of a head before those of a place
  std::size_t chunk_cells = 0;
  std::span<const Chunk> chunks;  ///< of [H, cells.back()] cells
  float negligible = 0;           ///< at most 1
  bool read_soon = false;         ///< the values are better left in the processor's caches

  [[nodiscard]] bool empty() const noexcept { return cells.empty(); }
  [[nodiscard]] Cell cell(std::size_t head, std::size_t slot, std::size_t number) const noexcept {
    const std::size_t index = head * cells.back() + cells[slot] + number;
    const Chunk& chunk = chunks[index / chunk_cells];
    const std::size_t at = index % chunk_cells * layers + layer;
    return {chunk.values + at * cell_keys, chunk.factors + at, chunk.bins + at * cell_bins};
  }
  /// Values of a cell that are there, for a row at `query`.
  [[nodiscard]] static constexpr std::size_t written(Position query, std::size_t number) noexcept {
    const std::size_t seen = query + std::size_t{1}, first = number * cell_keys;
    if (seen <= first) return 0;
    return seen - first >= cell_keys ? cell_keys : (seen - first + cell_unit - 1) / cell_unit * cell_unit;
  }
};

/// An observer that lends room for weights. A backend that can write there may do so instead of showing blocks: for
/// each layer it calls `lend` with the positions of its batch's rows (the room is empty if none of them is wanted),
/// writes, and calls `take` with the same positions.
template <class O>
concept LendingObserver = AttentionObserver<O> &&
    requires(O& observer, std::size_t layer, std::span<const Position> positions) {
  { observer.lends() } -> std::same_as<bool>;  ///< false: show blocks
  { observer.lend(layer, positions) } -> std::same_as<LentWeights>;
  { observer.take(layer, positions) } -> std::same_as<void>;
};

/// An observer that needs no more of a layer's weights than a sum for each key: over rows and heads of squared weights,
/// times what the row counts. A backend that adds them up where they are does so instead of showing blocks: for each
/// layer it calls `counts` with the positions of its batch's rows and, if one of them counts, `take_squares`.
template <class O>
concept SummingObserver = AttentionObserver<O> &&
    requires(O& observer, const O& read, std::size_t layer, std::span<const Position> positions,
             std::span<const float> squares) {
  { read.sums() } -> std::same_as<bool>;                                          ///< false: show blocks
  { observer.counts(layer, positions) } -> std::same_as<std::span<const float>>;  ///< [R]; 0: it is not looked at
  {
    observer.take_squares(layer, squares)
    } -> std::same_as<void>;  ///< [K] of keys 0 .. K-1, what the last row that counts sees
};

/// The observer that is not there: backends skip all work for it.
struct NullObserver {
  void operator()(const AttentionBlock&) const noexcept {}
};
static_assert(AttentionObserver<NullObserver>);

/// Passes everything on to an observer that lives elsewhere.
template <AttentionObserver O>
struct ObserverRef {
  O* observer = nullptr;
  void operator()(const AttentionBlock& block) const { (*observer)(block); }
  [[nodiscard]] bool wants(Position query) const requires SelectiveObserver<O> { return observer->wants(query); }
  [[nodiscard]] bool lends() const requires LendingObserver<O> { return observer->lends(); }
  [[nodiscard]] LentWeights lend(std::size_t layer,
                                 std::span<const Position> positions) const requires LendingObserver<O> {
    return observer->lend(layer, positions);
  }
  void take(std::size_t layer, std::span<const Position> positions) const requires LendingObserver<O> {
    observer->take(layer, positions);
  }
  [[nodiscard]] bool sums() const requires SummingObserver<O> { return observer->sums(); }
  [[nodiscard]] std::span<const float> counts(std::size_t layer,
                                              std::span<const Position> positions) const requires SummingObserver<O> {
    return observer->counts(layer, positions);
  }
  void take_squares(std::size_t layer, std::span<const float> squares) const requires SummingObserver<O> {
    observer->take_squares(layer, squares);
  }
};
static_assert(AttentionObserver<ObserverRef<NullObserver>>);

/// An observer that follows one conversation row by row: rows before observe_from are not new to it, and one pass
/// brings it at most block_rows() new ones.
template <class O>
concept TokenwiseObserver = AttentionObserver<O> && requires(O& observer, const O& read, Position position) {
  { observer.observe_from(position) } -> std::same_as<void>;
  { read.block_rows() } -> std::same_as<std::size_t>;
};

/// One that looks at the last rows of a pass only, and is told beforehand where it ends.
template <class O>
concept ForesightedObserver = TokenwiseObserver<O> && requires(O& observer, Position end) {
  { observer.observe_until(end) } -> std::same_as<void>;
};

}  // namespace krul
