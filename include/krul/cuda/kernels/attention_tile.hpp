#pragma once

#include <cstddef>
#include <cstdint>

#include "krul/cuda/kernels/attention_rows.hpp"

namespace krul::cuda::detail {

/// A tile of queries beside a tile of keys of f16 or bf16, for heads of up to `dims` values; the rest is zeros. Each of
/// four warps has 16 query rows of one KV head, see QueryPairs; in TileSums of scores and of outputs a lane has
/// rows lane / 4 and lane / 4 + 8 of its warp's.
template <ElementType half, unsigned dims>
struct AttentionTile {
  static_assert(half != ElementType::f32 && dims % 32 == 0);
  static constexpr unsigned warps = 4, warp_rows = 16, rows = warps * warp_rows, threads = warps * warp_lanes;
  static constexpr unsigned keys = dims <= 128 ? 64 : 32;  ///< fewer where a lane holds long sums
  static constexpr unsigned steps = dims / 16, key_columns = keys / 8, value_columns = dims / 8;
  // Words from one row in shared memory to the next: a warp's loads meet each bank once.
  static constexpr unsigned key_stride = dims / 2 + 4, value_stride = dims + 8;
  static constexpr std::size_t key_bytes = std::size_t{4} * keys * key_stride,
                               value_bytes = std::size_t{4} * (keys / 2) * value_stride;

  static_assert(keys / 2 * (dims / 8) % threads == 0);

  /// Which keys of a KV head are loaded: `count` from `first` on, at least one; the others of the tile are zeros.
  struct Place {
    std::uint32_t kv_head, first, count;
  };

  /// The queries of a lane's two rows, times the scale, rounded.
  /// @param query  [2] where each lies; null: zeros
  static KRUL_DEVICE void load_queries(const AttentionRows& in, const float* const (&query)[2], unsigned lane,
                                       TileLeft (&to)[steps]) {
    KRUL_UNROLL
    for (unsigned step = 0; step < steps; ++step) {
      KRUL_UNROLL
      for (unsigned i = 0; i < 4; ++i) {
        const float* const from = query[i % 2];
        const unsigned at = 16 * step + 2 * (lane % 4) + i / 2 * 8;
        const bool there = from != nullptr && at < in.dim;
        to[step].words[i] = there ? packed_halves(half, from[at] * in.scale, from[at + 1] * in.scale) : 0;
      }
    }
  }

  /// Keys to `to`, [keys, key_stride] words. All threads of the block share the work.
  template <KernelBlock Block>
  static KRUL_DEVICE void load_keys(Block& block, const AttentionRows& in, const Place& place, std::uint32_t* to) {
    KRUL_UNROLL
    for (unsigned round = 0; round < keys * (dims / 8) / threads; ++round) {
      const unsigned item = block.thread() + round * threads, key = item / (dims / 8), eight = item % (dims / 8);
      store_eight(load_eight(in, in.keys, place, key, eight), to + key * key_stride + 4 * eight);
    }
  }

  /// Keys as load_keys, and values to `values`, [keys / 2, value_stride] words with those of an even key and the next.
  /// Where a value is not finite, it becomes zero and its key NaN: then rows that do not see the key may multiply it by
  /// a weight of zero.
  template <KernelBlock Block>
  static KRUL_DEVICE void load(Block& block, const AttentionRows& in, const Place& place, std::uint32_t* to,
                               std::uint32_t* values) {
    KRUL_UNROLL
    for (unsigned round = 0; round < keys / 2 * (dims / 8) / threads; ++round) {
      const unsigned item = block.thread() + round * threads, pair = item / (dims / 8), eight = item % (dims / 8);
      EightHalves value[2];
      KRUL_UNROLL
      for (unsigned i = 0; i < 2; ++i) {
        EightHalves key = load_eight(in, in.keys, place, 2 * pair + i, eight);
        value[i] = load_eight(in, in.values, place, 2 * pair + i, eight);
        if (!all_finite(value[i])) {
          value[i] = {};
          key.words[0] = 0x7fff7fffU;
        }
        store_eight(key, to + (2 * pair + i) * key_stride + 4 * eight);
      }
      EightHalves words[2];
      KRUL_UNROLL
      for (unsigned i = 0; i < 8; ++i) {
        const unsigned shift = i % 2 * 16;
        words[i / 4].words[i % 4] =
            (value[0].words[i / 2] >> shift & 0xffffU) | (value[1].words[i / 2] >> shift & 0xffffU) << 16;
      }
      std::uint32_t* const out = values + pair * value_stride + 8 * eight;
      store_eight(words[0], out);
      store_eight(words[1], out + 4);
    }
  }

  /// Scores of a warp's rows and the keys in shared memory, column by column.
  template <KernelBlock Block>
  static KRUL_DEVICE void score(Block& block, const TileLeft (&queries)[steps], const std::uint32_t* keys_at,
                                TileSums (&scores)[key_columns]) {
    const unsigned lane = lane_of(block);
    KRUL_UNROLL
    for (unsigned column = 0; column < key_columns; ++column) {
      scores[column] = {};
      const std::uint32_t* const from = keys_at + (8 * column + lane / 4) * key_stride + lane % 4;
      KRUL_UNROLL
      for (unsigned step = 0; step < steps; ++step)
        block.add_tile_product(half, queries[step], {{from[8 * step], from[8 * step + 4]}}, scores[column]);
    }
  }

  /// out += weights * values, the weights rounded.
  template <KernelBlock Block>
  static KRUL_DEVICE void add_values(Block& block, const TileSums (&weights)[key_columns], const std::uint32_t* values,
                                     TileSums (&out)[value_columns]) {
    const unsigned lane = lane_of(block);
    KRUL_UNROLL
    for (unsigned step = 0; step < keys / 16; ++step) {
      // A lane's sums of two tiles are its operands of the next product.
      const float(&a)[4] = weights[2 * step].values, (&b)[4] = weights[2 * step + 1].values;
      const TileLeft left{{packed_halves(half, a[0], a[1]), packed_halves(half, a[2], a[3]),
                           packed_halves(half, b[0], b[1]), packed_halves(half, b[2], b[3])}};
      const std::uint32_t* const from = values + (8 * step + lane % 4) * value_stride + lane / 4;
      KRUL_UNROLL
      for (unsigned column = 0; column < value_columns; ++column)
        block.add_tile_product(half, left, {{from[8 * column], from[8 * column + 4 * value_stride]}}, out[column]);
    }
  }

 private:
  [[nodiscard]] static KRUL_DEVICE EightHalves load_eight(const AttentionRows& in, const void* from, const Place& place,
                                                          unsigned key, unsigned eight) {
    // Never a branch around a load: what one does not wait for, others may load meanwhile.
    const bool there = key < place.count && 8 * eight < in.dim;
    const std::size_t head = std::size_t{place.first + (there ? key : 0)} * in.kv_heads + place.kv_head;
    const EightHalves loaded = static_cast<const EightHalves*>(from)[head * (in.dim / 8) + (there ? eight : 0)];
    return there ? loaded : EightHalves{};
  }
  static KRUL_DEVICE void store_eight(const EightHalves& eight, std::uint32_t* to) {
    *reinterpret_cast<EightHalves*>(to) = eight;
  }
  [[nodiscard]] static KRUL_DEVICE bool all_finite(const EightHalves& eight) {
    constexpr std::uint32_t exponent = half == ElementType::f16 ? 0x7c00U : 0x7f80U;
    bool finite = true;
    KRUL_UNROLL
    for (const std::uint32_t word : eight.words)
      finite = finite && (word & exponent) != exponent && (word >> 16 & exponent) != exponent;
    return finite;
  }
};

}  // namespace krul::cuda::detail
