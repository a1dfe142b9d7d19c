#pragma once

#include <cstddef>
#include <cstdint>

#include "krul/cuda/device_api.hpp"
#include "krul/cuda/kernels/attention_tile.hpp"

namespace krul::cuda {

/// Weights of some rows, after their attention.
struct WantedWeights {
  const std::uint32_t* rows;  ///< [W] of the batch, ascending
  const float* log_sums;      ///< [R, H] as attention gave them
  float* weights;             ///< [H, W, K]; 0 where causality forbids
  std::uint32_t count, keys;  ///< W, K: what the last wanted row sees
};

/// The softmax weights of wanted rows over a cache of f16 or bf16: of the very scores that AttendRows had, but not
/// rounded. So each row sums to 1 within 2^-22 (K / 32 + 8) (2 + S) + 2^-23 K, where no score is beyond S in base 2:
/// the top may rise each 32 keys, at the cost of an exponential and a difference of scores; and K weights are added. A
/// row for which attention is NaN is NaN where it sees keys. A block has 64 query rows of one KV head and 256 keys.
template <ElementType half, unsigned dims>
struct AttentionWeights {
  AttentionRows in;
  WantedWeights wanted;

  using Tile = detail::AttentionTile<half, dims>;
  static constexpr std::uint32_t block_keys = 256;

  [[nodiscard]] Launch launch() const {
    const std::uint32_t tiles = (wanted.count * (in.heads / in.kv_heads) + Tile::rows - 1) / Tile::rows;
    return {.blocks = (wanted.keys + block_keys - 1) / block_keys * in.kv_heads * tiles,
            .threads = Tile::threads,
            .shared_bytes = Tile::key_bytes};
  }

  template <KernelBlock Block>
  KRUL_DEVICE void operator()(Block& block) const {
    const detail::QueryPairs all{in, wanted.rows, wanted.count};
    const std::uint32_t cuts = (wanted.keys + block_keys - 1) / block_keys, begin = block.index() % cuts * block_keys;
    const std::uint32_t end = detail::smaller(begin + block_keys, wanted.keys);
    const std::uint32_t kv_head = block.index() / cuts % in.kv_heads;
    const std::uint32_t tile_first = block.index() / cuts / in.kv_heads * Tile::rows;
    const std::uint32_t seen = all.seen_until(tile_first, Tile::rows);

    const unsigned lane = lane_of(block);
    const std::uint32_t first = tile_first + warp_of(block) * Tile::warp_rows;
    const detail::QueryPairs::Pair rows[2] = {all.pair(first + lane / 4, kv_head),
                                              all.pair(first + lane / 4 + 8, kv_head)};
    TileLeft queries[Tile::steps];
    Tile::load_queries(in, {all.query(rows[0]), all.query(rows[1])}, lane, queries);
    auto* const keys = reinterpret_cast<std::uint32_t*>(block.shared());
    for (std::uint32_t key = begin; key < end; key += Tile::keys) {
      TileSums scores[Tile::key_columns] = {};
      if (key < seen) {
        block.sync();
        Tile::load_keys(block, in, {kv_head, key, detail::smaller(seen - key, Tile::keys)}, keys);
        block.sync();
        Tile::score(block, queries, keys, scores);
      }
      store(rows[0], key + 2 * (lane % 4), scores, 0);
      store(rows[1], key + 2 * (lane % 4), scores, 2);
    }
  }

 private:
  /// @param key  of the lane's first score
  /// @param of   the row's first value in TileSums
  KRUL_DEVICE void store(const detail::QueryPairs::Pair& row, std::uint32_t key,
                         const TileSums (&scores)[Tile::key_columns], unsigned of) const {
    if (row.seen == 0) return;
    const float log_sum = wanted.log_sums[row.at];
    float* const to = wanted.weights + (std::size_t{row.head} * wanted.count + row.place) * wanted.keys;
    KRUL_UNROLL
    for (unsigned i = 0; i < 2 * Tile::key_columns; ++i) {
      const std::uint32_t at = key + i / 2 * 8 + i % 2;
      if (at >= wanted.keys) continue;
      to[at] = at < row.seen ? exp2_of(scores[i / 2].values[of + i % 2] - log_sum) : 0.0F;
    }
  }
};

/// AttentionWeights over a cache of f32: the same, with the scores of AttendRowsF32. A warp a wanted row, head and 256
/// keys.
struct AttentionWeightsF32 {
  AttentionRows in;
  WantedWeights wanted;

  static constexpr std::uint32_t warp_keys = 256, warps = 4;

  [[nodiscard]] Launch launch() const {
    return {.blocks = (units() + warps - 1) / warps, .threads = warps * warp_lanes};
  }

  template <KernelBlock Block>
  KRUL_DEVICE void operator()(Block& block) const {
    const std::uint32_t unit = block.index() * warps + warp_of(block);
    if (unit >= units()) return;
    const std::uint32_t head = unit % in.heads, place = unit / in.heads % wanted.count;
    const std::uint32_t begin = unit / in.heads / wanted.count * warp_keys;
    const std::uint32_t row = wanted.rows[place], seen = in.positions[row] + 1;
    const std::size_t at = std::size_t{row} * in.heads + head;
    const auto* const keys = static_cast<const float*>(in.keys);
    float* const to = wanted.weights + (std::size_t{head} * wanted.count + place) * wanted.keys;
    const std::uint32_t end = detail::smaller(begin + warp_keys, wanted.keys);
    for (std::uint32_t key = begin + lane_of(block); key < end; key += warp_lanes) {
      const std::size_t from = std::size_t{key} * in.kv_heads + head / (in.heads / in.kv_heads);
      to[key] = key < seen ? exp2_of(detail::scaled_product(in, in.queries + at * in.dim, keys + from * in.dim) -
                                     wanted.log_sums[at])
                           : 0.0F;
    }
  }

 private:
  [[nodiscard]] constexpr std::uint32_t units() const {
    return in.heads * wanted.count * ((wanted.keys + warp_keys - 1) / warp_keys);
  }
};

}  // namespace krul::cuda
