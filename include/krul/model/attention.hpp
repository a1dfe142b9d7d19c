#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "krul/backend/attention_observer.hpp"
#include "krul/backend/kv_rows.hpp"
#include "krul/core/aligned_buffer.hpp"
#include "krul/core/element_type.hpp"
#include "krul/core/geometry.hpp"
#include "krul/core/processor.hpp"
#include "krul/core/tokens.hpp"
#include "krul/core/workers.hpp"
#include "krul/model/detail/pool.hpp"
#include "krul/model/precision.hpp"

namespace krul {

/// Queries of some rows and the cache that they look at.
struct AttentionInput {
  std::span<const Position> positions;  ///< [R], ascending; row r sees keys 0 .. positions[r], all of which are there
  std::span<const float> queries;       ///< [R, H, D], after the rotary embedding
  KvRows cache;                         ///< [T, G, D] each, in the geometry's element type; T > positions.back()
};

namespace detail {
struct AttentionKernels;
struct Partials;
struct ScoreGroup;
struct ScoreOperands;
}  // namespace detail

/// What attention's two products are computed in where the matrices have `precision`; softmax, its sums and the sums of
/// products are f32 always. f32 beside f32 matrices; beside others bf16 if the processor multiplies that faster.
///
/// In bf16 queries, keys, values and e^(score - largest of the block) are rounded, u = 2^-8: a score of D products is
/// off by at most (2 u + u^2) sum |q k| / sqrt(D), a weight by as much of itself and u, a value by u.
[[nodiscard]] ElementType attention_arithmetic(Precision precision, const Processor& processor);

/// Causal grouped-query attention: softmax(q k / sqrt(D)) v, block by block.
///
/// Keys are taken in blocks of a fixed length. A block is unpacked once for all rows and query heads that share it;
/// each row gets a partial result from each block, and partial results are joined in the order of the keys. So a row's
/// bits do not depend on the rows beside it, nor on how work was divided. No more than a few rows of scores of one
/// block exist at a time. Several threads may call at once; they take turns on their Workers.
class BlockAttention {
 public:
  static constexpr std::size_t block_keys = LentWeights::cell_keys;

  /// @param threads    of the Workers that calls will bring
  /// @param precision  of the matrices beside it, see attention_arithmetic
  /// @param processor  what may be used of the one that runs this
  BlockAttention(const Geometry& geometry, std::size_t threads, Precision precision,
                 const Processor& processor = Processor::detect());

  [[nodiscard]] InstructionLevel level() const noexcept;  ///< of its loops
  [[nodiscard]] ElementType arithmetic() const noexcept;

  /// @param out   [R, H, D]
  /// @param lent  empty, or room for the weights of some rows, which costs little more than to write them
  /// @throws PreconditionError if the sizes do not fit together
  /// @complexity  4 H D FLOP for each row and each key it sees, up to a key tile above the diagonal
  void attend(const AttentionInput& input, std::span<float> out, Workers& workers, const LentWeights& lent = {});

  /// attend for several caches at once; the team shares out all of their work.
  /// @param out  [R, H, D] of the first input, then of the second, and so on
  /// @throws PreconditionError if the sizes do not fit together
  void attend_each(std::span<const AttentionInput> inputs, std::span<float> out, Workers& workers);

  /// The weights of some rows alone.
  /// @param rows     of the input
  /// @param weights  [H, rows, K] with K = positions[rows.end - 1] + 1; each row sums to 1, 0 where causality forbids
  /// @throws PreconditionError if the sizes do not fit together
  void weights(const AttentionInput& input, RowRange rows, std::span<float> weights, Workers& workers);

  /// attend and weights in one.
  /// @param weights  [H, R, K] with K = positions.back() + 1
  /// @throws PreconditionError if the sizes do not fit together
  void attend_and_show(const AttentionInput& input, std::span<float> out, std::span<float> weights, Workers& workers);

 private:
  struct Tile {
    std::size_t kv_head;
    RowRange rows;
  };
  /// How rows are cut into tiles.
  struct Tiling {
    RowRange rows;
    std::size_t height;
    std::size_t count;
  };
  /// Where a block of keys lies.
  struct BlockPlace {
    std::size_t kv_head;
    std::size_t first_key;
  };
  /// Query rows of one KV head beside a block of keys: row first / (H / G) and its first % (H / G)th head, and so on.
  struct GroupPlace {
    std::size_t kv_head;
    std::size_t first;
    std::size_t count;
    std::size_t block;
  };
  /// One worker's room. A unit is 32 bits: an f32, or two bf16 that are neighbours along the products' sums.
  struct Scratch {
    AlignedBuffer queries;  // of each group of a tile's query rows: [units of D, rows of a group] units
    AlignedBuffer keys;     // [block_keys, units of D] units
    AlignedBuffer values;   // [units of block_keys, padded D] units
    AlignedBuffer scores;   // [block_keys, rows of a group] f32
    AlignedBuffer weights;  // [units of block_keys, rows of a group] units
    AlignedBuffer shown;    // [rows of a group, block_keys], weights on their way to an observer
    AlignedBuffer state;    // Partials of a tile
    AlignedBuffer group;    // Partials of a group
  };
  /// What is kept of the weights: nothing, all as f32, or some rows in lent room.
  struct Shown {
    std::span<float> weights;
    float* tops;  // [H, R, blocks], largest scores, where weights are kept
    const LentWeights* lent;
  };

  std::size_t check(const AttentionInput& input) const;
  [[nodiscard]] Tiling tiling(RowRange rows, std::size_t threads) const;
  [[nodiscard]] Tile tile(const Tiling& tiling, std::size_t index) const;
  [[nodiscard]] std::size_t partial_values(std::size_t rows) const;
  [[nodiscard]] detail::Partials partials(float* memory, std::size_t rows) const;

  void run(const AttentionInput& input, std::span<float> out, Workers& workers, const Shown& shown);
  void load_queries(const AttentionInput& input, const Tile& tile, Scratch& scratch) const;
  void load_keys(const AttentionInput& input, std::size_t kv_head, TokenRange keys, Scratch& scratch) const;
  void load_values(const AttentionInput& input, std::size_t kv_head, TokenRange keys, Scratch& scratch) const;
  void score_block(const AttentionInput& input, const BlockPlace& place, const detail::ScoreGroup& group,
                   detail::ScoreOperands operands, std::size_t& loaded, Scratch& scratch) const;
  void show_group(const AttentionInput& input, const GroupPlace& place, const detail::ScoreGroup& group,
                  Scratch& scratch, const Shown& shown) const;
  void lend_group(const GroupPlace& place, const detail::ScoreGroup& group, const detail::Partials* before,
                  Scratch& scratch, const LentWeights& lent) const;
  void attend_block(const AttentionInput& input, const Tile& tile, std::size_t block, const detail::Partials& into,
                    bool join, Scratch& scratch, const Shown& shown) const;
  void attend_tile(const AttentionInput& input, const Tile& tile, std::span<float> out, Scratch& scratch,
                   const Shown& shown) const;
  void write_rows(const Tile& tile, const detail::Partials& state, std::span<float> out) const;
  static std::size_t all_blocks(const AttentionInput& input);
  static std::size_t weights_row(const AttentionInput& input, std::size_t head, std::size_t row);
  template <class FactorOf>
  static void scale_weights(const AttentionInput& input, std::size_t row, std::size_t head, const Shown& shown,
                            FactorOf&& factor_of);
  void finish_weights(const AttentionInput& input, const Tile& tile, const detail::Partials& state,
                      const Shown& shown) const;

  static const detail::AttentionKernels& choose(Precision precision, const Processor& processor);

  const detail::AttentionKernels* kernels_;
  Geometry geometry_;
  std::size_t group_;       // query heads per KV head
  std::size_t padded_dim_;  // D up to whole vectors
  std::size_t dim_units_;   // units of D, up to whole vectors
  std::size_t tile_rows_;
  std::vector<Scratch> scratch_;
  detail::Pool<AlignedBuffer> split_;  // partial results of blocks that are shared out
};

}  // namespace krul
