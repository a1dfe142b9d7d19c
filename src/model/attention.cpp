#include "krul/model/attention.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "attention_kernels.hpp"
#include "krul/core/error.hpp"
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace krul {
namespace {

using detail::up_to_whole, detail::most_group_rows;

/// Makes lent weights, which may have been written past the caches, visible to a thread that is told of them.
void finish_lending() {
#if defined(__SSE__)
  _mm_sfence();
#endif
}

/// Most bytes of partial results that may exist at once when blocks of keys are shared out.
constexpr std::size_t largest_split = std::size_t{16} << 20;

}  // namespace

BlockAttention::BlockAttention(const Geometry& geometry, std::size_t threads, Precision precision,
                               const Processor& processor)
    : kernels_(&choose(precision, processor)),
      geometry_(geometry),
      group_(geometry.query_heads / geometry.kv_heads),
      padded_dim_(up_to_whole(geometry.head_dim, kernels_->lanes)),
      dim_units_(up_to_whole((geometry.head_dim + kernels_->pack - 1) / kernels_->pack, kernels_->lanes)),
      // About 384 rows of scores share a block of keys and values: enough to pay for unpacking it, and few enough for
      // several tiles a core.
      tile_rows_(std::clamp<std::size_t>(384 / group_, 8, 128)),
      scratch_(threads) {
  const std::size_t group_rows = kernels_->group_rows, rows = up_to_whole(tile_rows_ * group_, group_rows);
  for (auto& scratch : scratch_) {
    scratch.queries = AlignedBuffer(rows * dim_units_ * sizeof(std::int32_t));
    scratch.keys = AlignedBuffer(block_keys * dim_units_ * sizeof(std::int32_t));
    scratch.values = AlignedBuffer(block_keys / kernels_->pack * padded_dim_ * sizeof(std::int32_t));
    scratch.scores = AlignedBuffer(block_keys * group_rows * sizeof(float));
    scratch.weights = AlignedBuffer(block_keys / kernels_->pack * group_rows * sizeof(std::int32_t));
    scratch.shown = AlignedBuffer(group_rows * block_keys * sizeof(float));
    scratch.state = AlignedBuffer(partial_values(rows) * sizeof(float));
    scratch.group = AlignedBuffer(partial_values(group_rows) * sizeof(float));
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

/// Lower tiles where there would be too few to share out, as long as they pay for unpacking keys and values.
BlockAttention::Tiling BlockAttention::tiling(RowRange rows, std::size_t threads) const {
  constexpr std::size_t fewest_scores = 96;  // rows of them in a tile
  const auto count_of = [&](std::size_t height) { return (rows.size() + height - 1) / height * geometry_.kv_heads; };
  std::size_t height = tile_rows_;
  while (count_of(height) < 4 * threads && height / 2 * group_ >= fewest_scores) height /= 2;
  return {rows, height, count_of(height)};
}

/// Longest first, so that the last ones to be handed out are short.
BlockAttention::Tile BlockAttention::tile(const Tiling& tiling, std::size_t index) const {
  const std::size_t kv_heads = geometry_.kv_heads;
  const std::size_t begin = tiling.rows.begin + (tiling.count / kv_heads - 1 - index / kv_heads) * tiling.height;
  return {index % kv_heads, {begin, std::min(begin + tiling.height, tiling.rows.end)}};
}

/// Floats that the partial results of some rows take, tops and sums up to whole vectors.
std::size_t BlockAttention::partial_values(std::size_t rows) const {
  return rows * padded_dim_ + 2 * up_to_whole(rows, kernels_->lanes);
}

detail::Partials BlockAttention::partials(float* memory, std::size_t rows) const {
  float* const tops = memory + rows * padded_dim_;
  return {memory, tops, tops + up_to_whole(rows, kernels_->lanes)};
}

void BlockAttention::load_queries(const AttentionInput& input, const Tile& tile, Scratch& scratch) const {
  const std::size_t dim = geometry_.head_dim, stride = geometry_.query_heads * dim;
  kernels_->load_queries({.first = &input.queries[tile.rows.begin * stride + tile.kv_head * group_ * dim],
                          .stride = stride,
                          .heads = group_,
                          .count = tile.rows.size() * group_,
                          .dim = dim},
                         dim_units_, scratch.queries.as<std::int32_t>().data());
}

/// Some keys of a block, zeros where there are none. Their values are brought near meanwhile.
void BlockAttention::load_keys(const AttentionInput& input, std::size_t kv_head, TokenRange keys,
                               Scratch& scratch) const {
  const std::size_t stride = geometry_.kv_row_bytes(), bytes = stride / geometry_.kv_heads, head = kv_head * bytes;
  const std::size_t there = input.positions.back() + std::size_t{1};
  const detail::HeadRows rows{input.cache.keys.data() + keys.begin * stride + head, stride,
                              there - std::min(there, keys.begin), geometry_.head_dim};
  std::int32_t* const to = scratch.keys.as<std::int32_t>().data() + keys.begin % block_keys * dim_units_;
  kernels_->unpack_keys(geometry_.cache_type, rows, keys.size(), dim_units_, to);
  constexpr std::size_t line = 64;
  for (std::size_t key = keys.begin; key < std::min(keys.end, there); ++key)
    for (std::size_t byte = 0; byte < bytes; byte += line)
      __builtin_prefetch(input.cache.values.data() + key * stride + head + byte, 0, 2);
}

/// Some values of a block, from a whole unit on.
void BlockAttention::load_values(const AttentionInput& input, std::size_t kv_head, TokenRange keys,
                                 Scratch& scratch) const {
  const std::size_t stride = geometry_.kv_row_bytes(), head = kv_head * stride / geometry_.kv_heads;
  const detail::HeadRows rows{&input.cache.values[keys.begin * stride + head], stride, keys.size(), geometry_.head_dim};
  std::int32_t* const to =
      scratch.values.as<std::int32_t>().data() + keys.begin % block_keys / kernels_->pack * padded_dim_;
  kernels_->unpack_values(geometry_.cache_type, rows, padded_dim_, to);
}

/// Scores of a group with a block's keys, which are unpacked as they are used.
/// @param operands  of the group; begin and end are open
/// @param loaded    keys of the block that are unpacked already
void BlockAttention::score_block(const AttentionInput& input, const BlockPlace& place, const detail::ScoreGroup& group,
                                 detail::ScoreOperands operands, std::size_t& loaded, Scratch& scratch) const {
  for (operands.begin = 0; operands.begin < group.keys; operands.begin = operands.end) {
    operands.end =
        operands.begin < loaded ? std::min(loaded, group.keys) : std::min(loaded + kernels_->tile_height, group.keys);
    if (operands.end > loaded) {
      load_keys(input, place.kv_head, {place.first_key + loaded, place.first_key + operands.end}, scratch);
      loaded = operands.end;
    }
    kernels_->score(group, operands);
  }
}

/// Partial results of a tile's rows from one block of keys. Those that see none of them get `lowest_score` as largest
/// score, and no values.
/// @param into  [tile rows * H / G]: is overwritten, or joined with what is there
void BlockAttention::attend_block(const AttentionInput& input, const Tile& tile, std::size_t block,
                                  const detail::Partials& into, bool join, Scratch& scratch, const Shown& shown) const {
  const std::size_t first_key = block * block_keys, pack = kernels_->pack, group_rows = kernels_->group_rows;
  std::size_t loaded_keys = 0, loaded_values = 0;  // of the block; more as later rows see more
  const detail::Partials partial = partials(scratch.group.as<float>().data(), group_rows);
  const std::size_t rows = tile.rows.size() * group_;
  for (std::size_t begin = 0; begin < rows; begin += group_rows) {
    const std::size_t count = std::min(group_rows, rows - begin);
    const detail::Partials here{into.values + begin * padded_dim_, into.tops + begin, into.sums + begin};
    const detail::Partials& to = join ? partial : here;
    alignas(64) std::int32_t limits[most_group_rows];  // keys of the block that each query sees
    for (std::size_t r = 0; r < group_rows; ++r) {
      const std::size_t row = tile.rows.begin + (begin + std::min(r, count - 1)) / group_;
      const std::size_t seen = input.positions[row] + std::size_t{1};
      limits[r] = static_cast<std::int32_t>(std::min(seen - std::min(seen, first_key), block_keys));
    }
    const auto seen = static_cast<std::size_t>(limits[count - 1]);  // rows ascend
    if (seen == 0) {
      if (!join) std::fill_n(to.tops, count, detail::lowest_score);
      continue;
    }
    alignas(64) float tops[most_group_rows], sums[most_group_rows];
    const detail::ScoreGroup group{.vectors = (count + kernels_->lanes - 1) / kernels_->lanes,
                                   .limits = limits,
                                   .seen_by_all = static_cast<std::size_t>(limits[0]),
                                   .keys = up_to_whole(seen, LentWeights::cell_unit),
                                   .scale = 1.0F / std::sqrt(static_cast<float>(geometry_.head_dim)),
                                   .scores = scratch.scores.as<float>().data(),
                                   .weights = scratch.weights.as<std::int32_t>().data(),
                                   .tops = tops,
                                   .sums = sums};
    score_block(input, {tile.kv_head, first_key}, group,
                {.keys = scratch.keys.as<std::int32_t>().data(),
                 .stride = dim_units_,
                 .queries = scratch.queries.as<std::int32_t>().data() + begin * dim_units_,
                 .dim_units = (geometry_.head_dim + pack - 1) / pack,
                 .begin = 0,
                 .end = 0},
                loaded_keys, scratch);
    kernels_->soften(group, !shown.weights.empty());
    std::copy_n(tops, count, to.tops);
    std::copy_n(sums, count, to.sums);

    const GroupPlace place{tile.kv_head, tile.rows.begin * group_ + begin, count, block};
    if (!shown.weights.empty()) show_group(input, place, group, scratch, shown);
    if (shown.lent != nullptr) lend_group(place, group, join ? &here : nullptr, scratch, *shown.lent);
    if (seen > loaded_values) {
      load_values(input, tile.kv_head, {first_key + loaded_values / pack * pack, first_key + seen}, scratch);
      loaded_values = seen;
    }
    kernels_->weigh({.weights = group.weights,
                     .values = scratch.values.as<std::int32_t>().data(),
                     .seen = seen,
                     .rows = count,
                     .columns = padded_dim_,
                     .out = to.values});
    if (join) kernels_->join(here, partial, count, padded_dim_);
  }
  finish_lending();
}

void BlockAttention::write_rows(const Tile& tile, const detail::Partials& state, std::span<float> out) const {
  const std::size_t dim = geometry_.head_dim;
  for (std::size_t row = tile.rows.begin, at = 0; row < tile.rows.end; ++row)
    for (std::size_t head = 0; head < group_; ++head, ++at) {
      float* const to = &out[(row * geometry_.query_heads + tile.kv_head * group_ + head) * dim];
      const float* const from = state.values + at * padded_dim_;
      const float inverse = 1 / state.sums[at];
      for (std::size_t d = 0; d < dim; ++d) to[d] = from[d] * inverse;
    }
}

/// Keys of the batch, in blocks.
std::size_t BlockAttention::all_blocks(const AttentionInput& input) {
  return input.positions.back() / block_keys + 1;
}

void BlockAttention::run(const AttentionInput& input, std::span<float> out, Workers& workers, const Shown& shown) {
  const std::size_t rows = input.positions.size();
  expects(out.size() == input.queries.size(), "attention: the output has another size than the queries");
  expects(workers.threads() <= scratch_.size(), "attention: made for fewer threads");
  const Tiling cut = tiling({0, rows}, workers.threads());
  const std::size_t tiles = cut.count;
  const auto tile_at = [&](std::size_t index) { return tile(cut, index); };
  const auto blocks_of = [&](const Tile& one) { return input.positions[one.rows.end - 1] / block_keys + 1; };

  // With few tiles a core, as in decoding, the blocks of keys are shared out as well.
  const std::size_t blocks = all_blocks(input), split_rows = std::min(rows, cut.height) * group_;
  const std::size_t split_bytes = tiles * blocks * partial_values(split_rows) * sizeof(float);
  if (workers.threads() > 1 && blocks > 1 && tiles < 4 * workers.threads() && split_bytes <= largest_split) {
    const auto memory = split_.borrow();
    (*memory).reserve(split_bytes);
    float* const first = (*memory).as<float>().data();
    const auto at = [&](std::size_t tile, std::size_t block) {
      return partials(first + (tile * blocks + block) * partial_values(split_rows), split_rows);
    };
    workers.parallel_for(tiles * blocks, [&](std::size_t index, std::size_t worker) {
      const std::size_t block = index % blocks;
      const Tile one = tile_at(index / blocks);
      if (block >= blocks_of(one)) return;
      load_queries(input, one, scratch_[worker]);
      attend_block(input, one, block, at(index / blocks, block), false, scratch_[worker], shown);
    });
    const auto join_tile = [&](std::size_t index, std::size_t) {
      const Tile one = tile_at(index);
      for (std::size_t block = 1; block < blocks_of(one); ++block)
        kernels_->join(at(index, 0), at(index, block), one.rows.size() * group_, padded_dim_);
      write_rows(one, at(index, 0), out);
      finish_weights(input, one, at(index, 0), shown);
    };
    constexpr std::size_t fewest = std::size_t{64}
                                   << 10;  // bytes of partial results; fewer are not worth waking anybody
    if (split_bytes >= fewest)
      workers.parallel_for(tiles, join_tile);
    else
      for (std::size_t index = 0; index < tiles; ++index) join_tile(index, 0);
    return;
  }
  workers.parallel_for(tiles, [&](std::size_t index, std::size_t worker) {
    attend_tile(input, tile_at(index), out, scratch_[worker], shown);
  });
}

/// All that one tile's rows see, block after block.
void BlockAttention::attend_tile(const AttentionInput& input, const Tile& tile, std::span<float> out, Scratch& scratch,
                                 const Shown& shown) const {
  const detail::Partials state = partials(scratch.state.as<float>().data(), tile_rows_ * group_);
  const std::size_t blocks = input.positions[tile.rows.end - 1] / block_keys + 1;
  load_queries(input, tile, scratch);
  for (std::size_t block = 0; block < blocks; ++block)
    attend_block(input, tile, block, state, block > 0, scratch, shown);
  write_rows(tile, state, out);
  finish_weights(input, tile, state, shown);
}

void BlockAttention::attend(const AttentionInput& input, std::span<float> out, Workers& workers,
                            const LentWeights& lent) {
  const std::size_t rows = check(input);
  if (!lent.empty()) {
    expects(lent.slots.size() == rows && lent.layer < lent.layers && lent.chunk_cells > 0 &&
                lent.chunks.size() * lent.chunk_cells >= geometry_.query_heads * std::size_t{lent.cells.back()},
            "attention: the lent room is too small");
    for (std::size_t row = 0; row < rows; ++row) {
      const std::size_t slot = lent.slots[row];
      expects(
          slot == LentWeights::no_slot || (slot + 1 < lent.cells.size() &&
                                           lent.cells[slot] + input.positions[row] / block_keys < lent.cells[slot + 1]),
          "attention: a row's place lies outside the lent room");
    }
  }
  if (rows > 0) run(input, out, workers, {{}, nullptr, lent.empty() ? nullptr : &lent});
}

void BlockAttention::attend_each(std::span<const AttentionInput> inputs, std::span<float> out, Workers& workers) {
  struct Part {
    const AttentionInput* input;
    std::span<float> out;
    Tiling tiling;
    std::size_t end;  // of its tiles among those of all inputs
  };
  expects(workers.threads() <= scratch_.size(), "attention: made for fewer threads");
  std::vector<Part> parts;
  std::size_t values = 0, tiles = 0;
  for (const AttentionInput& input : inputs) {
    const Tiling cut = tiling({0, check(input)}, 1);  // the inputs are many: no need for low tiles
    expects(values + input.queries.size() <= out.size(), "attention: the output has another size than the queries");
    parts.push_back({&input, out.subspan(values, input.queries.size()), cut, tiles += cut.count});
    values += input.queries.size();
  }
  expects(values == out.size(), "attention: the output has another size than the queries");
  workers.parallel_for(tiles, [&](std::size_t index, std::size_t worker) {
    const auto part = std::upper_bound(parts.begin(), parts.end(), index,
                                       [](std::size_t value, const Part& one) { return value < one.end; });
    const std::size_t first = part->end - part->tiling.count;
    attend_tile(*part->input, tile(part->tiling, index - first), part->out, scratch_[worker], {{}, nullptr, nullptr});
  });
}

}  // namespace krul
