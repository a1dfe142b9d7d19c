#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "krul/backend/kv_rows.hpp"
#include "krul/core/geometry.hpp"
#include "krul/core/tokens.hpp"
#include "krul/core/workers.hpp"
#include "krul/model/aligned_buffer.hpp"

namespace krul {

/// Queries of some rows and the cache that they look at.
struct AttentionInput {
  std::span<const Position> positions;  ///< [R], ascending; row r sees keys 0 .. positions[r], all of which are there
  std::span<const float> queries;       ///< [R, H, D], after the rotary embedding
  KvRows cache;                         ///< [T, G, D] each, in the geometry's element type; T > positions.back()
};

/// Causal grouped-query attention: softmax(q k / sqrt(D)) v, block by block.
///
/// Keys are taken in blocks of a fixed length. A block is brought to f32 once for all rows and query heads that share
/// it; each row gets a partial result from each block, and partial results are joined in the order of the keys. So a
/// row's bits do not depend on the rows beside it, nor on how work was divided. No more than a few rows of scores of
/// one block exist at a time.
class BlockAttention {
 public:
  static constexpr std::size_t block_keys = 256;

  /// @param threads  of the Workers that calls will bring
  BlockAttention(const Geometry& geometry, std::size_t threads);

  /// @param out      [R, H, D]
  /// @param weights  empty, or [H, R, K] with K = positions.back() + 1: what an AttentionObserver sees, at little more
  ///                 than the price of writing it down
  /// @throws PreconditionError if the sizes do not fit together
  void attend(const AttentionInput& input, std::span<float> out, Workers& workers, std::span<float> weights = {});

  /// The weights of some rows alone.
  /// @param rows     of the input
  /// @param weights  [H, rows, K] with K = positions[rows.end - 1] + 1; each row sums to 1, 0 where causality forbids
  /// @throws PreconditionError if the sizes do not fit together
  void weights(const AttentionInput& input, RowRange rows, std::span<float> weights, Workers& workers);

 private:
  struct Tile {
    std::size_t kv_head;
    RowRange rows;
  };
  /// One worker's room: a block of keys, transposed, and of values; partial results of a tile.
  struct Scratch {
    AlignedBuffer keys;    // [padded D, block_keys] f32
    AlignedBuffer values;  // [block_keys, padded D] f32
    AlignedBuffer state;   // [2, tile rows * H / G, partial_values] f32: so far, and of one block
  };

  std::size_t check(const AttentionInput& input) const;
  [[nodiscard]] std::vector<Tile> tiles(RowRange rows) const;
  void load_keys(const AttentionInput& input, std::size_t kv_head, TokenRange keys, Scratch& scratch) const;
  void load_values(const AttentionInput& input, std::size_t kv_head, TokenRange keys, Scratch& scratch) const;
  void attend_block(const AttentionInput& input, const Tile& tile, std::size_t block, float* partials, Scratch& scratch,
                    std::span<float> weights) const;
  void join_block(const AttentionInput& input, const Tile& tile, std::size_t block, const float* partials,
                  float* state) const;
  void write_rows(const Tile& tile, const float* state, std::span<float> out) const;
  static std::size_t weights_row(const AttentionInput& input, std::size_t head, std::size_t row);
  void note_tops(const Tile& tile, std::size_t block, const float* partials, std::span<float> tops) const;
  void scale_weights(const AttentionInput& input, const Tile& tile, std::span<const float> tops, const float* state,
                     std::span<float> weights) const;

  Geometry geometry_;
  std::size_t group_;           // query heads per KV head
  std::size_t padded_dim_;      // D up to whole vectors
  std::size_t partial_values_;  // weighted values [padded D], largest score, sum of weights
  std::size_t tile_rows_;
  std::vector<Scratch> scratch_;
};

}  // namespace krul
