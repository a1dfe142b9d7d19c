#pragma once

#include <cstddef>
#include <cstdint>

#include "krul/cuda/device_api.hpp"
#include "krul/cuda/kernels/attention_tile.hpp"

namespace krul::cuda {

/// Causal grouped-query attention over a cache of f16 or bf16: softmax(q k / sqrt(D)) v, with running maxima. A block
/// has 64 query rows of one KV head (rows of the batch and heads that share it) and one split of the keys.
///
/// Queries times the scale, and weights 2^(score - largest so far), are rounded to the cache's type; products are added
/// and the softmax is computed in f32. What is not finite in a query, or in a key or value that it sees, makes its
/// whole output and log_sum NaN, and so do queries too large for f16 and scores too large for f32; nothing that it does
/// not see does.
///
/// A row's bits depend on its query, the keys and values that it sees, `dims`, and where keys are split; not on the
/// rows beside it.
///
/// @tparam dims  at least D
/// @complexity   4 D FLOP for each query row and key, up to whole tiles; each key is loaded once for 64 query rows
/// @source Dao, FlashAttention-2, arXiv:2307.08691; splits: Flash-Decoding, 2023 (both second-hand)
template <ElementType half, unsigned dims>
struct AttendRows {
  AttentionRows in;
  AttentionResult to;
  KeySplits splits;

  using Tile = detail::AttentionTile<half, dims>;

  /// @param pairs  R * H / G
  [[nodiscard]] static Launch launch(std::uint32_t pairs, std::uint32_t kv_heads, const KeySplits& splits) {
    return {.blocks = (pairs + Tile::rows - 1) / Tile::rows * kv_heads * splits.count,
            .threads = Tile::threads,
            .shared_bytes = Tile::key_bytes + Tile::value_bytes};
  }

  template <KernelBlock Block>
  KRUL_DEVICE void operator()(Block& block) const {
    const detail::QueryPairs all{in, nullptr, in.rows};
    const std::uint32_t split = block.index() % splits.count, kv_head = block.index() / splits.count % in.kv_heads;
    // Rows that see most begin first.
    const std::uint32_t tile = (all.count() - 1) / Tile::rows - block.index() / splits.count / in.kv_heads;
    const std::uint32_t begin = split * splits.keys;
    const std::uint32_t end = detail::smaller(all.seen_until(tile * Tile::rows, Tile::rows), splits.end(split));

    const unsigned lane = lane_of(block);
    const std::uint32_t first = tile * Tile::rows + warp_of(block) * Tile::warp_rows;
    const std::uint32_t warp_end = all.seen_until(first, Tile::warp_rows);
    const Pair rows[2] = {all.pair(first + lane / 4, kv_head), all.pair(first + lane / 4 + 8, kv_head)};
    TileLeft queries[Tile::steps];
    Tile::load_queries(in, {all.query(rows[0]), all.query(rows[1])}, lane, queries);
    Running running;
    auto* const keys = reinterpret_cast<std::uint32_t*>(block.shared());
    std::uint32_t* const values = keys + Tile::key_bytes / 4;
    for (std::uint32_t key = begin; key < end; key += Tile::keys) {
      block.sync();
      Tile::load(block, in, {kv_head, key, detail::smaller(end - key, Tile::keys)}, keys, values);
      block.sync();
      if (key >= warp_end) continue;
      TileSums scores[Tile::key_columns];
      Tile::score(block, queries, keys, scores);
      running.weigh(block, rows, key + 2 * (lane % 4), scores);
      Tile::add_values(block, scores, values, running.out);
    }
    running.finish(block);
    KRUL_UNROLL
    for (unsigned i = 0; i < 2; ++i)
      if (rows[i].seen != 0) store(running, rows[i], i, {split, lane});
  }

 private:
  using Pair = detail::QueryPairs::Pair;
  struct Place {
    std::uint32_t split;
    unsigned lane;
  };

  /// A lane's part of the softmax of its two rows.
  struct Running {
    float tops[2] = {-infinity(), -infinity()}, sums[2] = {};
    TileSums out[Tile::value_columns] = {};

    /// Scores become weights; the sums so far are brought to the same unit.
    /// @param key  of the lane's first score
    template <KernelBlock Block>
    KRUL_DEVICE void weigh(Block& block, const Pair (&rows)[2], std::uint32_t key,
                           TileSums (&scores)[Tile::key_columns]) {
      float largest[2] = {tops[0], tops[1]};
      KRUL_UNROLL
      for (unsigned column = 0; column < Tile::key_columns; ++column) {
        KRUL_UNROLL
        for (unsigned i = 0; i < 4; ++i) {
          float& score = scores[column].values[i];
          score = key + 8 * column + i % 2 < rows[i / 2].seen ? detail::seen_score(score) : -infinity();
          largest[i / 2] = larger(largest[i / 2], score);
        }
      }
      float factors[2];
      KRUL_UNROLL
      for (unsigned i = 0; i < 2; ++i) {
        for (unsigned apart = 1; apart < 4; apart *= 2)
          largest[i] = larger(largest[i], other(block, largest[i], apart));
        factors[i] = exp2_of(tops[i] - detail::finite_top(largest[i]));
        tops[i] = largest[i];
        sums[i] *= factors[i];
      }
      KRUL_UNROLL
      for (TileSums& column : scores) {
        KRUL_UNROLL
        for (unsigned i = 0; i < 4; ++i) {
          column.values[i] = exp2_of(column.values[i] - detail::finite_top(tops[i / 2]));
          sums[i / 2] += column.values[i];
        }
      }
      KRUL_UNROLL
      for (TileSums& column : out) {
        KRUL_UNROLL
        for (unsigned i = 0; i < 4; ++i) column.values[i] *= factors[i / 2];
      }
    }

    /// The four lanes of a row add their sums of weights.
    template <KernelBlock Block>
    KRUL_DEVICE void finish(Block& block) {
      KRUL_UNROLL
      for (float& sum : sums)
        for (unsigned apart = 1; apart < 4; apart *= 2) sum += other(block, sum, apart);
    }

    template <KernelBlock Block>
    [[nodiscard]] static KRUL_DEVICE float other(Block& block, float value, unsigned apart) {
      return float_of_bits(block.shuffle(bits_of_float(value), lane_of(block) ^ apart));
    }
  };

  /// @param i  which of the lane's rows
  KRUL_DEVICE void store(const Running& running, const Pair& row, unsigned i, const Place& place) const {
    const bool whole = splits.count == 1;
    const auto parts = detail::AttentionParts::of(in, to.parts, splits.count);
    const std::size_t at = row.at + (whole ? 0 : std::size_t{place.split} * in.rows * in.heads);
    const float factor = whole ? 1 / running.sums[i] : 1.0F;
    KRUL_UNROLL
    for (unsigned column = 0; column < Tile::value_columns; ++column) {
      const unsigned d = 8 * column + 2 * (place.lane % 4);
      if (d >= in.dim) continue;
      const float(&sums)[4] = running.out[column].values;
      const float pair[2] = {sums[2 * i] * factor, sums[2 * i + 1] * factor};
      store_pair(whole ? to.type : ElementType::f32, pair, whole ? to.out : parts.out, at * in.dim + d);
    }
    if (place.lane % 4 != 0) return;
    if (!whole) {
      parts.tops[at] = running.tops[i];
      parts.sums[at] = running.sums[i];
    } else if (to.log_sums != nullptr) {
      to.log_sums[at] = running.tops[i] + log2_of(running.sums[i]);
    }
  }
};

}  // namespace krul::cuda
