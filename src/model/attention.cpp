#include "krul/model/attention.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <memory>
#include <utility>

#include "krul/core/error.hpp"
#include "krul/core/half.hpp"
#include "lanes.hpp"

namespace krul {
namespace {

constexpr std::size_t block_keys = BlockAttention::block_keys;
constexpr std::size_t group_rows = 6;  // rows of a register tile
constexpr std::size_t key_tile = tile_vectors * lane_count;
static_assert(block_keys % key_tile == 0);

/// Calls call.operator()<rows>() for a number that is known only now, 1 to group_rows.
template <class Call>
void with_rows(std::size_t rows, Call&& call) {
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    ((rows == I + 1 ? call.template operator()<I + 1>() : void()), ...);
  }
  (std::make_index_sequence<group_rows>());
}

/// Dot products of Rows queries with key_tile keys; each sums in the order of the dimensions.
/// @param queries  [Rows] of [dim]
/// @param keys     [dim, block_keys], at the tile's first key
/// @param scores   [Rows, block_keys], at the tile's first key
template <std::size_t Rows>
void score_tile(const float* const* queries, const float* keys, std::size_t dim, float* scores) {
  Lanes sums[Rows][tile_vectors] = {};
  for (std::size_t d = 0; d < dim; ++d) {
    Lanes key[tile_vectors];
    for (std::size_t v = 0; v < tile_vectors; ++v) key[v] = load(keys + d * block_keys + v * lane_count);
    for (std::size_t r = 0; r < Rows; ++r)
      for (std::size_t v = 0; v < tile_vectors; ++v) sums[r][v] += queries[r][d] * key[v];
  }
  for (std::size_t r = 0; r < Rows; ++r)
    for (std::size_t v = 0; v < tile_vectors; ++v) store(sums[r][v], scores + r * block_keys + v * lane_count);
}

/// Sums of values weighted by Rows rows of weights, in the order of the keys.
/// @param weights  [Rows, block_keys]
/// @param values   [count, stride], at the first dimension wanted
/// @param out      [Rows] of [Vectors * lane_count]
template <std::size_t Rows, std::size_t Vectors>
void value_tile(const float* weights, const float* values, std::size_t stride, std::size_t count, float* const* out) {
  Lanes sums[Rows][Vectors] = {};
  for (std::size_t k = 0; k < count; ++k) {
    Lanes value[Vectors];
    for (std::size_t v = 0; v < Vectors; ++v) value[v] = load(values + k * stride + v * lane_count);
    for (std::size_t r = 0; r < Rows; ++r)
      for (std::size_t v = 0; v < Vectors; ++v) sums[r][v] += weights[r * block_keys + k] * value[v];
  }
  for (std::size_t r = 0; r < Rows; ++r)
    for (std::size_t v = 0; v < Vectors; ++v) store(sums[r][v], out[r] + v * lane_count);
}

/// Lanes of a vector that starts at `first` and may be seen: those below `limit`.
IntLanes below(std::size_t first, std::size_t limit) {
  return lane_numbers() < static_cast<std::int32_t>(limit) - static_cast<std::int32_t>(first);
}

struct SoftmaxSums {
  float largest;  ///< largest visible score, scaled
  float sum;      ///< of the weights
};

/// scores -> e^(scale * score - largest) for the first `limit`, 0 for the others.
/// @param scores  [count], count whole vectors
SoftmaxSums soften(float* scores, std::size_t count, std::size_t limit, float scale) {
  constexpr float lowest = -3.4e38F;
  Lanes largest = broadcast(lowest);
  for (std::size_t k = 0; k < limit; k += lane_count)
    largest = max(largest, select(below(k, limit), load(scores + k), broadcast(lowest)));
  const float top = max_of(largest) * scale;
  Lanes sum{};
  for (std::size_t k = 0; k < count; k += lane_count) {
    const Lanes weight = select(below(k, limit), exp(load(scores + k) * scale - top), Lanes{});
    sum += weight;
    store(weight, scores + k);
  }
  return {top, sum_of(sum)};
}

/// Joins the partial result of a later block to that of the earlier ones. Both [values, largest, sum].
void join(float* state, const float* partial, std::size_t padded_dim) {
  const float before = state[padded_dim], here = partial[padded_dim];
  const float top = std::max(before, here);
  const Lanes old_scale = exp(broadcast(before - top)), new_scale = exp(broadcast(here - top));
  for (std::size_t d = 0; d < padded_dim; d += lane_count)
    store(load(state + d) * old_scale + load(partial + d) * new_scale, state + d);
  state[padded_dim] = top;
  state[padded_dim + 1] = state[padded_dim + 1] * old_scale[0] + partial[padded_dim + 1] * new_scale[0];
}

/// Swaps blocks of S x S lanes that lie across the diagonal of each 2S x 2S block.
template <std::size_t S, std::size_t... I>
void swap_across(Lanes* rows, std::index_sequence<I...>) {
  for (std::size_t i = 0; i < lane_count; ++i) {
    if ((i & S) != 0) continue;
    const Lanes a = rows[i], b = rows[i + S];
    rows[i] = __builtin_shufflevector(a, b, ((I & S) != 0 ? lane_count + I - S : I)...);
    rows[i + S] = __builtin_shufflevector(a, b, ((I & S) != 0 ? lane_count + I : I + S)...);
  }
}

/// The rows of one KV head within the cache.
struct HeadRows {
  const std::byte* first;  ///< [dim] values of the first row wanted
  std::size_t stride;      ///< bytes from row to row
  std::size_t count;       ///< rows wanted
  std::size_t dim;
};

/// Values [d, d + lane_count) of a row; those beyond its end are 0.
template <ElementType Type>
Lanes load_part(const HeadRows& rows, std::size_t row, std::size_t d) {
  const std::byte* const from = rows.first + row * rows.stride + d * size_of(Type);
  if (d + lane_count <= rows.dim) return load_as<Type>(from);
  const std::size_t bytes = (rows.dim - d) * size_of(Type);
  std::byte padded[lane_count * size_of(Type)] = {};
  std::memcpy(padded, from, bytes);
  return load_as<Type>(padded);
}

/// @param to  [rows.count, padded_dim]
template <ElementType Type>
void unpack_rows(const HeadRows& rows, std::size_t padded_dim, float* to) {
  for (std::size_t row = 0; row < rows.count; ++row)
    for (std::size_t d = 0; d < padded_dim; d += lane_count)
      store(load_part<Type>(rows, row, d), to + row * padded_dim + d);
}

/// @param to  [padded_dim, block_keys]
template <ElementType Type>
void unpack_transposed(const HeadRows& rows, std::size_t padded_dim, float* to) {
  constexpr auto lanes = std::make_index_sequence<lane_count>();
  for (std::size_t row = 0; row < rows.count; row += lane_count)
    for (std::size_t d = 0; d < padded_dim; d += lane_count) {
      Lanes square[lane_count];
      for (std::size_t i = 0; i < lane_count; ++i)
        square[i] = row + i < rows.count ? load_part<Type>(rows, row + i, d) : Lanes{};
      if constexpr (lane_count > 8) swap_across<8>(square, lanes);
      if constexpr (lane_count > 4) swap_across<4>(square, lanes);
      swap_across<2>(square, lanes);
      swap_across<1>(square, lanes);
      for (std::size_t i = 0; i < lane_count; ++i) store(square[i], to + (d + i) * block_keys + row);
    }
}

/// Calls call.operator()<type>() for a type that is known only now.
template <class Call>
void with_type(ElementType type, Call&& call) {
  switch (type) {
    case ElementType::f32:
      return call.template operator()<ElementType::f32>();
    case ElementType::f16:
      return call.template operator()<ElementType::f16>();
    case ElementType::bf16:
      return call.template operator()<ElementType::bf16>();
  }
}

/// Most values of partial results that may exist at once when blocks of keys are shared out: 16 MiB.
constexpr std::size_t largest_split = std::size_t{4} << 20;

constexpr std::size_t up_to_whole(std::size_t value, std::size_t unit) {
  return (value + unit - 1) / unit * unit;
}

}  // namespace

BlockAttention::BlockAttention(const Geometry& geometry, std::size_t threads)
    : geometry_(geometry),
      group_(geometry.query_heads / geometry.kv_heads),
      padded_dim_(up_to_whole(geometry.head_dim, lane_count)),
      partial_values_(up_to_whole(padded_dim_ + 2, lane_count)),
      // About 384 rows of scores share a block of keys and values: enough to pay for unpacking it, and few enough for
      // several tiles a core.
      tile_rows_(std::clamp<std::size_t>(384 / group_, 8, 128)),
      scratch_(threads) {
  for (auto& scratch : scratch_) {
    scratch.keys = AlignedBuffer(block_keys * padded_dim_ * sizeof(float));
    scratch.values = AlignedBuffer(block_keys * padded_dim_ * sizeof(float));
    scratch.state = AlignedBuffer(2 * tile_rows_ * group_ * partial_values_ * sizeof(float));
  }
}

/// @return rows
std::size_t BlockAttention::check(const AttentionInput& input) const {
  const std::size_t rows = input.positions.size();
  expects(input.queries.size() == rows * geometry_.query_heads * geometry_.head_dim,
          "attention: the queries do not belong to the positions");
  expects(rows == 0 || (input.positions.back() + std::size_t{1}) * geometry_.kv_row_bytes() <=
                           std::min(input.cache.keys.size(), input.cache.values.size()),
          "attention: a position lies beyond the cache");
  return rows;
}

/// Longest first, so that the last ones to be handed out are short.
std::vector<BlockAttention::Tile> BlockAttention::tiles(RowRange rows) const {
  std::vector<Tile> all;
  const std::size_t count = (rows.size() + tile_rows_ - 1) / tile_rows_;
  all.reserve(count * geometry_.kv_heads);
  for (std::size_t tile = count; tile-- > 0;)
    for (std::size_t kv_head = 0; kv_head < geometry_.kv_heads; ++kv_head) {
      const std::size_t begin = rows.begin + tile * tile_rows_;
      all.push_back({kv_head, {begin, std::min(begin + tile_rows_, rows.end)}});
    }
  return all;
}

void BlockAttention::load_keys(const AttentionInput& input, std::size_t kv_head, TokenRange keys,
                               Scratch& scratch) const {
  const std::size_t stride = geometry_.kv_row_bytes(), head = kv_head * stride / geometry_.kv_heads;
  const HeadRows rows{&input.cache.keys[keys.begin * stride + head], stride, keys.size(), geometry_.head_dim};
  with_type(geometry_.cache_type,
            [&]<ElementType Type>() { unpack_transposed<Type>(rows, padded_dim_, scratch.keys.as<float>().data()); });
}

void BlockAttention::load_values(const AttentionInput& input, std::size_t kv_head, TokenRange keys,
                                 Scratch& scratch) const {
  const std::size_t stride = geometry_.kv_row_bytes(), head = kv_head * stride / geometry_.kv_heads;
  const HeadRows rows{&input.cache.values[keys.begin * stride + head], stride, keys.size(), geometry_.head_dim};
  with_type(geometry_.cache_type,
            [&]<ElementType Type>() { unpack_rows<Type>(rows, padded_dim_, scratch.values.as<float>().data()); });
}

/// Partial results of a tile's rows from one block of keys; those of rows that see none of them are not written.
/// @param weights  as attend's: gets e^(score - largest of the block); not touched if empty
void BlockAttention::attend_block(const AttentionInput& input, const Tile& tile, std::size_t block, float* partials,
                                  Scratch& scratch, std::span<float> weights) const {
  const std::size_t first_key = block * block_keys;
  const std::size_t end_key =
      std::min<std::size_t>(first_key + block_keys, input.positions[tile.rows.end - 1] + std::size_t{1});
  load_keys(input, tile.kv_head, {first_key, end_key}, scratch);
  load_values(input, tile.kv_head, {first_key, end_key}, scratch);
  const float* const keys = scratch.keys.as<float>().data();
  const float* const values = scratch.values.as<float>().data();
  const float scale = 1.0F / std::sqrt(static_cast<float>(geometry_.head_dim));
  const std::size_t dim = geometry_.head_dim;

  const std::size_t rows = tile.rows.size() * group_;
  for (std::size_t begin = 0; begin < rows; begin += group_rows) {
    const std::size_t count = std::min(group_rows, rows - begin);
    std::array<const float*, group_rows> queries{};
    std::array<float*, group_rows> out{};
    std::array<std::size_t, group_rows> limits{};
    std::size_t limit = 0;
    for (std::size_t r = 0; r < count; ++r) {
      const std::size_t row = tile.rows.begin + (begin + r) / group_, head = (begin + r) % group_;
      queries[r] = &input.queries[(row * geometry_.query_heads + tile.kv_head * group_ + head) * dim];
      out[r] = partials + (begin + r) * partial_values_;
      const std::size_t seen = input.positions[row] + std::size_t{1};
      limits[r] = std::min(seen - std::min(seen, first_key), block_keys);
      limit = std::max(limit, limits[r]);
    }
    if (limit == 0) continue;
    const std::size_t scored = up_to_whole(limit, key_tile);

    alignas(64) float scores[group_rows * block_keys];
    with_rows(count, [&]<std::size_t Rows>() {
      for (std::size_t k = 0; k < scored; k += key_tile) score_tile<Rows>(queries.data(), keys + k, dim, scores + k);
    });
    for (std::size_t r = 0; r < count; ++r) {
      const auto sums = soften(scores + r * block_keys, scored, limits[r], scale);
      out[r][padded_dim_] = sums.largest;
      out[r][padded_dim_ + 1] = sums.sum;
      if (!weights.empty()) {
        const std::size_t head = tile.kv_head * group_ + (begin + r) % group_;
        std::memcpy(&weights[weights_row(input, head, tile.rows.begin + (begin + r) / group_) + first_key],
                    scores + r * block_keys, limits[r] * sizeof(float));
      }
    }
    with_rows(count, [&]<std::size_t Rows>() {
      std::size_t d = 0;
      const auto columns = [&]<std::size_t Vectors>() {
        float* at[Rows];
        for (std::size_t r = 0; r < Rows; ++r) at[r] = out[r] + d;
        value_tile<Rows, Vectors>(scores, values + d, padded_dim_, limit, at);
        d += Vectors * lane_count;
      };
      while (d + tile_vectors * lane_count <= padded_dim_) columns.template operator()<tile_vectors>();
      while (d < padded_dim_) columns.template operator()<1>();
    });
  }
}

/// Joins the partial results of one block to what a tile's rows have so far; rows that see none of its keys are left.
void BlockAttention::join_block(const AttentionInput& input, const Tile& tile, std::size_t block, const float* partials,
                                float* state) const {
  for (std::size_t row = tile.rows.begin; row < tile.rows.end; ++row) {
    if (input.positions[row] < block * block_keys) continue;
    for (std::size_t head = 0; head < group_; ++head) {
      const std::size_t at = ((row - tile.rows.begin) * group_ + head) * partial_values_;
      join(state + at, partials + at, padded_dim_);
    }
  }
}

void BlockAttention::write_rows(const Tile& tile, const float* state, std::span<float> out) const {
  const std::size_t dim = geometry_.head_dim;
  for (std::size_t row = tile.rows.begin; row < tile.rows.end; ++row)
    for (std::size_t head = 0; head < group_; ++head, state += partial_values_) {
      float* const to = &out[(row * geometry_.query_heads + tile.kv_head * group_ + head) * dim];
      const float sum = state[padded_dim_ + 1];
      for (std::size_t d = 0; d < dim; ++d) to[d] = state[d] / sum;
    }
}

std::size_t BlockAttention::weights_row(const AttentionInput& input, std::size_t head, std::size_t row) {
  return (head * input.positions.size() + row) * (input.positions.back() + std::size_t{1});
}

/// Remembers the largest scores of a block, by which its weights are scaled.
/// @param tops  [tile rows * H / G, blocks]
void BlockAttention::note_tops(const Tile& tile, std::size_t block, const float* partials,
                               std::span<float> tops) const {
  const std::size_t rows = tile.rows.size() * group_, blocks = tops.size() / rows;
  for (std::size_t r = 0; r < rows; ++r) tops[r * blocks + block] = partials[r * partial_values_ + padded_dim_];
}

/// Brings what attend_block left of a tile's weights to sums of 1, and writes the zeros.
void BlockAttention::scale_weights(const AttentionInput& input, const Tile& tile, std::span<const float> tops,
                                   const float* state, std::span<float> weights) const {
  const std::size_t keys = input.positions.back() + std::size_t{1};
  const std::size_t rows = tile.rows.size() * group_, blocks = tops.size() / rows;
  for (std::size_t r = 0; r < rows; ++r, state += partial_values_) {
    const std::size_t row = tile.rows.begin + r / group_, seen = input.positions[row] + std::size_t{1};
    float* const to = &weights[weights_row(input, tile.kv_head * group_ + r % group_, row)];
    for (std::size_t block = 0; block * block_keys < seen; ++block) {
      const float top = tops[r * blocks + block] - state[padded_dim_];
      const Lanes factor = exp(broadcast(top)) / state[padded_dim_ + 1];
      std::size_t k = block * block_keys;
      const std::size_t end = std::min(seen, k + block_keys);
      for (; k + lane_count <= end; k += lane_count) store(load(to + k) * factor, to + k);
      for (; k < end; ++k) to[k] *= factor[0];
    }
    std::fill(to + seen, to + keys, 0.0F);
  }
}

void BlockAttention::attend(const AttentionInput& input, std::span<float> out, Workers& workers,
                            std::span<float> weights) {
  const std::size_t rows = check(input);
  expects(out.size() == input.queries.size(), "attention: the output has another size than the queries");
  expects(workers.threads() <= scratch_.size(), "attention: made for fewer threads");
  if (rows == 0) return;
  const bool observed = !weights.empty();
  expects(!observed || weights.size() == weights_row(input, geometry_.query_heads, 0),
          "attention: room for the weights is wrong");
  const auto all = tiles({0, rows});
  const auto blocks_of = [&](const Tile& tile) { return input.positions[tile.rows.end - 1] / block_keys + 1; };
  const auto room_for_tops = [&](const Tile& tile) {
    return std::vector<float>(observed ? tile.rows.size() * group_ * blocks_of(tile) : 0);
  };
  const std::size_t tile_values = tile_rows_ * group_ * partial_values_;

  // With few tiles a core, as in decoding, the blocks of keys are shared out as well.
  const std::size_t blocks = blocks_of(all.front());
  const std::size_t split_values = all.size() * blocks * std::min(rows, tile_rows_) * group_ * partial_values_;
  if (workers.threads() > 1 && blocks > 1 && all.size() < 4 * workers.threads() && split_values <= largest_split) {
    const std::size_t stride = split_values / (all.size() * blocks);
    const auto partials = std::make_unique_for_overwrite<float[]>(split_values);
    const auto at = [&](std::size_t tile, std::size_t block) { return &partials[(tile * blocks + block) * stride]; };
    workers.parallel_for(all.size() * blocks, [&](std::size_t index, std::size_t worker) {
      const std::size_t tile = index / blocks, block = index % blocks;
      if (block < blocks_of(all[tile]))
        attend_block(input, all[tile], block, at(tile, block), scratch_[worker], weights);
    });
    workers.parallel_for(all.size(), [&](std::size_t tile, std::size_t) {
      auto tops = room_for_tops(all[tile]);
      if (observed)
        for (std::size_t block = 0; block < blocks_of(all[tile]); ++block)
          note_tops(all[tile], block, at(tile, block), tops);
      for (std::size_t block = 1; block < blocks_of(all[tile]); ++block)
        join_block(input, all[tile], block, at(tile, block), at(tile, 0));
      write_rows(all[tile], at(tile, 0), out);
      if (observed) scale_weights(input, all[tile], tops, at(tile, 0), weights);
    });
    return;
  }
  workers.parallel_for(all.size(), [&](std::size_t index, std::size_t worker) {
    const Tile& tile = all[index];
    auto& scratch = scratch_[worker];
    float* const state = scratch.state.as<float>().data();
    auto tops = room_for_tops(tile);
    attend_block(input, tile, 0, state, scratch, weights);
    if (observed) note_tops(tile, 0, state, tops);
    for (std::size_t block = 1; block < blocks_of(tile); ++block) {
      attend_block(input, tile, block, state + tile_values, scratch, weights);
      if (observed) note_tops(tile, block, state + tile_values, tops);
      join_block(input, tile, block, state + tile_values, state);
    }
    write_rows(tile, state, out);
    if (observed) scale_weights(input, tile, tops, state, weights);
  });
}

void BlockAttention::weights(const AttentionInput& input, RowRange rows, std::span<float> weights, Workers& workers) {
  const std::size_t all_rows = check(input);
  expects(rows.begin < rows.end && rows.end <= all_rows, "attention: the rows lie outside the batch");
  expects(workers.threads() <= scratch_.size(), "attention: made for fewer threads");
  const std::size_t keys = input.positions[rows.end - 1] + std::size_t{1};
  expects(weights.size() == geometry_.query_heads * rows.size() * keys, "attention: room for the weights is wrong");
  const float scale = 1.0F / std::sqrt(static_cast<float>(geometry_.head_dim));
  const auto all = tiles(rows);
  workers.parallel_for(all.size(), [&](std::size_t index, std::size_t worker) {
    const Tile& tile = all[index];
    auto& scratch = scratch_[worker];
    const auto row_of = [&](std::size_t row, std::size_t head) {
      return &weights[((tile.kv_head * group_ + head) * rows.size() + row - rows.begin) * keys];
    };
    for (std::size_t first = 0; first < keys; first += block_keys) {
      const std::size_t count = std::min(block_keys, keys - first);
      load_keys(input, tile.kv_head, {first, first + count}, scratch);
      const std::size_t tile_row_count = tile.rows.size() * group_;
      for (std::size_t begin = 0; begin < tile_row_count; begin += group_rows) {
        const std::size_t some = std::min(group_rows, tile_row_count - begin);
        const auto row_and_head = [&](std::size_t r) {
          return std::pair(tile.rows.begin + (begin + r) / group_, (begin + r) % group_);
        };
        if (input.positions[row_and_head(some - 1).first] < first) continue;  // none of them sees these keys
        std::array<const float*, group_rows> queries{};
        for (std::size_t r = 0; r < some; ++r) {
          const auto [row, head] = row_and_head(r);
          queries[r] =
              &input.queries[(row * geometry_.query_heads + tile.kv_head * group_ + head) * geometry_.head_dim];
        }
        alignas(64) float scores[group_rows * block_keys];
        with_rows(some, [&]<std::size_t Rows>() {
          for (std::size_t k = 0; k < count; k += key_tile)
            score_tile<Rows>(queries.data(), scratch.keys.as<float>().data() + k, geometry_.head_dim, scores + k);
        });
        for (std::size_t r = 0; r < some; ++r) {
          const auto [row, head] = row_and_head(r);
          std::memcpy(row_of(row, head) + first, scores + r * block_keys, count * sizeof(float));
        }
      }
    }
    for (std::size_t row = tile.rows.begin; row < tile.rows.end; ++row)
      for (std::size_t head = 0; head < group_; ++head) {
        float* const row_weights = row_of(row, head);
        const std::size_t seen = input.positions[row] + std::size_t{1};
        const float top = *std::max_element(row_weights, row_weights + seen) * scale;
        double sum = 0;
        for (std::size_t k = 0; k < seen; k += lane_count) {
          float part[lane_count] = {};
          const std::size_t count = std::min(lane_count, seen - k);
          std::memcpy(part, row_weights + k, count * sizeof(float));
          const Lanes weight = select(below(k, seen), exp(load(part) * scale - top), Lanes{});
          sum += static_cast<double>(sum_of(weight));
          store(weight, part);
          std::memcpy(row_weights + k, part, count * sizeof(float));
        }
        const auto inverse = static_cast<float>(1 / sum);
        for (std::size_t k = 0; k < seen; ++k) row_weights[k] *= inverse;
        std::fill(row_weights + seen, row_weights + keys, 0.0F);
      }
  });
}

}  // namespace krul
