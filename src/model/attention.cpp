#include "krul/model/attention.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "attention_arithmetic.hpp"
#include "krul/core/error.hpp"
#include "lanes.hpp"

namespace krul {
namespace {

constexpr std::size_t block_keys = LentWeights::cell_keys;
// A register tile: its sums fill three quarters of the registers.
constexpr std::size_t group_rows = lane_count == 16 ? 12 : 6;
constexpr std::size_t group_vectors = 2;
constexpr std::size_t key_tile = group_vectors * lane_count;
static_assert(block_keys % key_tile == 0 && LentWeights::cell_unit % key_tile == 0);

constexpr float lowest = -3.4e38F;  // the largest of no scores

/// Calls call.operator()<rows>() for a number that is known only now, 1 to group_rows.
template <class Call>
void with_rows(std::size_t rows, Call&& call) {
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    ((rows == I + 1 ? call.template operator()<I + 1>() : void()), ...);
  }
  (std::make_index_sequence<group_rows>());
}

/// Sums over `count` units of products of Rows rows of units with Vectors columns of them, in the order of the units.
/// @param left    [Rows, left_stride] units
/// @param right   [count, right_stride] units, at the tile's first column
/// @param out     [Rows, out_stride], at the tile's first column
struct ProductShape {
  std::size_t count;
  std::size_t left_stride;
  std::size_t right_stride;
  std::size_t out_stride;
};
template <class Arithmetic, std::size_t Rows, std::size_t Vectors>
void product_tile(const std::int32_t* left, const std::int32_t* right, const ProductShape& shape, float* out) {
  Lanes sums[Rows][Vectors] = {};
  for (std::size_t k = 0; k < shape.count; ++k) {
    IntLanes column[Vectors];
    for (std::size_t v = 0; v < Vectors; ++v) column[v] = load_units(right + k * shape.right_stride + v * lane_count);
    for (std::size_t r = 0; r < Rows; ++r) {
      const IntLanes row = broadcast_unit(left + r * shape.left_stride + k);
      for (std::size_t v = 0; v < Vectors; ++v) sums[r][v] = Units<Arithmetic>::dot(sums[r][v], row, column[v]);
    }
  }
  for (std::size_t r = 0; r < Rows; ++r)
    for (std::size_t v = 0; v < Vectors; ++v) store(sums[r][v], out + r * shape.out_stride + v * lane_count);
}

/// The product of some rows with `columns` columns, whole vectors.
template <class Arithmetic>
void product(std::size_t rows, const std::int32_t* left, const std::int32_t* right, std::size_t columns,
             const ProductShape& shape, float* out) {
  with_rows(rows, [&]<std::size_t Rows>() {
    std::size_t at = 0;
    for (; at + key_tile <= columns; at += key_tile)
      product_tile<Arithmetic, Rows, group_vectors>(left, right + at, shape, out + at);
    for (; at < columns; at += lane_count) product_tile<Arithmetic, Rows, 1>(left, right + at, shape, out + at);
  });
}

/// Lanes of a vector that starts at `first` and may be seen: those below `limit`.
IntLanes below(std::size_t first, std::size_t limit) {
  return lane_numbers() < static_cast<std::int32_t>(limit) - static_cast<std::int32_t>(first);
}

struct SoftmaxSums {
  float largest;  ///< largest visible score, scaled; `lowest` if none is visible
  float sum;      ///< of the weights
};

/// The weights e^(scale * score - largest) of the first `limit` scores, 0 for the others, as units.
/// Two chains each for the largest and for the sum, as one would wait for itself.
/// @param scores  [count], count whole key tiles; becomes the f32 weights if Keep
/// @param units   [count / pack]; may be the scores' own place if pack is 1
template <class Arithmetic, bool Keep>
SoftmaxSums soften(float* scores, std::size_t count, std::size_t limit, float scale, std::int32_t* units) {
  constexpr std::size_t pack = Units<Arithmetic>::pack;
  if (limit == 0) {
    if constexpr (Keep) std::fill_n(scores, count, 0.0F);
    std::fill_n(units, count / pack, 0);
    return {lowest, 0};
  }
  const std::size_t whole = limit / key_tile * key_tile;
  Lanes largest[group_vectors] = {broadcast(lowest), broadcast(lowest)};
  for (std::size_t k = 0; k < whole; k += key_tile)
    for (std::size_t v = 0; v < group_vectors; ++v) largest[v] = max(largest[v], load(scores + k + v * lane_count));
  if (whole < limit)
    for (std::size_t v = 0, k = whole; v < group_vectors; ++v, k += lane_count)
      largest[v] = max(largest[v], select(below(k, limit), load(scores + k), broadcast(lowest)));
  const float top = max_of(max(largest[0], largest[1])) * scale;
  Lanes sum[group_vectors] = {};
  const auto tile = [&](std::size_t k, auto&& mask) {
    Lanes part[group_vectors];
    for (std::size_t v = 0; v < group_vectors; ++v) {
      const std::size_t at = k + v * lane_count;
      part[v] = mask(at, Units<Arithmetic>::weight(load(scores + at), scale, top));
      sum[v] += part[v];
      if constexpr (Keep) store(part[v], scores + at);
    }
    if constexpr (pack == group_vectors)
      store_units(Units<Arithmetic>::row({part[0], part[1]}), units + k / pack);
    else
      for (std::size_t v = 0; v < group_vectors; ++v)
        store_units(Units<Arithmetic>::row({part[v]}), units + k + v * lane_count);
  };
  for (std::size_t k = 0; k < whole; k += key_tile) tile(k, [](std::size_t, Lanes weight) { return weight; });
  for (std::size_t k = whole; k < count; k += key_tile)
    tile(k, [&](std::size_t at, Lanes weight) { return select(below(at, limit), weight, Lanes{}); });
  return {top, sum_of(sum[0] + sum[1])};
}

/// Swaps blocks of S x S lanes that lie across the diagonal of each 2S x 2S block.
template <std::size_t S, std::size_t... I>
void swap_across(IntLanes* rows, std::index_sequence<I...>) {
  for (std::size_t i = 0; i < lane_count; ++i) {
    if ((i & S) != 0) continue;
    const IntLanes a = rows[i], b = rows[i + S];
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

/// Values [d, d + lane_count) of a row; those beyond its end, or of no row, are 0.
template <ElementType Type>
Lanes load_part(const HeadRows& rows, std::size_t row, std::size_t d) {
  if (row >= rows.count || d >= rows.dim) return Lanes{};
  const std::byte* const from = rows.first + row * rows.stride + d * size_of(Type);
  if (d + lane_count <= rows.dim) return load_as<Type>(from);
  const std::size_t bytes = (rows.dim - d) * size_of(Type);
  std::byte padded[lane_count * size_of(Type)] = {};
  std::memcpy(padded, from, bytes);
  return load_as<Type>(padded);
}

/// Asks for a row some iterations ahead: neighbouring rows of one head lie too far apart for the processor to guess.
template <ElementType Type>
void fetch_ahead(const HeadRows& rows, std::size_t row) {
  constexpr std::size_t ahead = 32, line = 64;
  const std::byte* const from = rows.first + (row + ahead) * rows.stride;
  for (std::size_t byte = 0; byte < rows.dim * size_of(Type); byte += line) __builtin_prefetch(from + byte);
}

/// @param to  [units of rows.count, padded_dim] units
template <class Arithmetic, ElementType Type>
void unpack_rows(const HeadRows& rows, std::size_t padded_dim, std::int32_t* to) {
  constexpr std::size_t pack = Units<Arithmetic>::pack;
  for (std::size_t row = 0; row < rows.count; row += pack, to += padded_dim) {
    for (std::size_t p = 0; p < pack; ++p) fetch_ahead<Type>(rows, row + p);
    for (std::size_t d = 0; d < padded_dim; d += lane_count) {
      std::array<Lanes, pack> part;
      for (std::size_t p = 0; p < pack; ++p) part[p] = load_part<Type>(rows, row + p, d);
      store_units(Units<Arithmetic>::column(part), to + d);
    }
  }
}

/// Units [unit, unit + lane_count) of a row of the cache.
template <class Arithmetic, ElementType Type>
IntLanes load_row_units(const HeadRows& rows, std::size_t row, std::size_t unit) {
  constexpr std::size_t pack = Units<Arithmetic>::pack;
  std::array<Lanes, pack> part;
  for (std::size_t p = 0; p < pack; ++p) part[p] = load_part<Type>(rows, row, unit * pack + p * lane_count);
  return Units<Arithmetic>::row(part);
}

/// @param to  [dim_units, block_keys] units
template <class Arithmetic, ElementType Type>
void unpack_transposed(const HeadRows& rows, std::size_t dim_units, std::int32_t* to) {
  constexpr auto lanes = std::make_index_sequence<lane_count>();
  for (std::size_t row = 0; row < rows.count; row += lane_count) {
    for (std::size_t i = 0; i < lane_count; ++i) fetch_ahead<Type>(rows, row + i);
    for (std::size_t unit = 0; unit < dim_units; unit += lane_count) {
      IntLanes square[lane_count];
      for (std::size_t i = 0; i < lane_count; ++i) square[i] = load_row_units<Arithmetic, Type>(rows, row + i, unit);
      if constexpr (lane_count > 8) swap_across<8>(square, lanes);
      if constexpr (lane_count > 4) swap_across<4>(square, lanes);
      swap_across<2>(square, lanes);
      swap_across<1>(square, lanes);
      for (std::size_t i = 0; i < lane_count; ++i) store_units(square[i], to + (unit + i) * block_keys + row);
    }
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

/// Writes weights to a lent cell. Where nobody reads them soon, past the processor's caches.
/// @param weights  [count] f32, count whole cell units
/// @param units    the same as units
template <class Arithmetic>
void lend_weights(const float* weights, const std::int32_t* units, std::size_t count, [[maybe_unused]] bool read_soon,
                  std::uint16_t* to) {
  if constexpr (Units<Arithmetic>::pack == 2) {
#if defined(__AVX512F__)
    if (!read_soon) {
      for (std::size_t k = 0; k < count; k += 32)
        _mm512_stream_si512(reinterpret_cast<__m512i*>(to + k), (__m512i)load_units(units + k / 2));
      return;
    }
#endif
    std::memcpy(to, units, count * sizeof(std::uint16_t));
  } else {
    for (std::size_t k = 0; k < count; k += key_tile) {
      const IntLanes rounded = Units<Bf16Arithmetic>::row({load(weights + k), load(weights + k + lane_count)});
      std::memcpy(to + k, &rounded, sizeof rounded);
    }
  }
}

/// Sums of the weights of each bin of a cell.
/// @param units  [count] weights as units
template <class Arithmetic>
void sum_bins(const std::int32_t* units, std::size_t count, float* bins) {
  constexpr std::size_t pack = Units<Arithmetic>::pack, step = pack * lane_count;
  std::array<Lanes, pack> ones;
  ones.fill(broadcast(1));
  const IntLanes one = Units<Arithmetic>::row(ones);
  for (std::size_t bin = 0; bin < LentWeights::cell_bins; ++bin) {
    Lanes sum{};
    const std::size_t end = std::min(count, (bin + 1) * LentWeights::bin_keys);
    for (std::size_t k = bin * LentWeights::bin_keys; k < end; k += step)
      sum = Units<Arithmetic>::dot(sum, load_units(units + k / pack), one);
    bins[bin] = sum_of(sum);
  }
}

/// Makes what lend_weights wrote visible to a thread that is told of it afterwards.
void finish_lending() {
#if defined(__AVX512F__)
  _mm_sfence();
#endif
}

/// Most bytes of partial results that may exist at once when blocks of keys are shared out.
constexpr std::size_t largest_split = std::size_t{16} << 20;

constexpr std::size_t up_to_whole(std::size_t value, std::size_t unit) {
  return (value + unit - 1) / unit * unit;
}

}  // namespace

template <AttentionArithmetic A>
BlockAttention<A>::BlockAttention(const Geometry& geometry, std::size_t threads)
    : geometry_(geometry),
      group_(geometry.query_heads / geometry.kv_heads),
      padded_dim_(up_to_whole(geometry.head_dim, lane_count)),
      dim_units_(up_to_whole((geometry.head_dim + Units<A>::pack - 1) / Units<A>::pack, lane_count)),
      // About 384 rows of scores share a block of keys and values: enough to pay for unpacking it, and few enough for
      // several tiles a core.
      tile_rows_(std::clamp<std::size_t>(384 / group_, 8, 128)),
      scratch_(threads) {
  const std::size_t rows = tile_rows_ * group_;
  for (auto& scratch : scratch_) {
    scratch.queries = AlignedBuffer(rows * dim_units_ * sizeof(std::int32_t));
    scratch.keys = AlignedBuffer(dim_units_ * block_keys * sizeof(std::int32_t));
    scratch.values = AlignedBuffer(block_keys / Units<A>::pack * padded_dim_ * sizeof(std::int32_t));
    scratch.state = AlignedBuffer(partial_values(rows) * sizeof(float));
    scratch.group = AlignedBuffer(partial_values(group_rows) * sizeof(float));
  }
}

/// @return rows
template <AttentionArithmetic A>
std::size_t BlockAttention<A>::check(const AttentionInput& input) const {
  const std::size_t rows = input.positions.size();
  expects(input.queries.size() == rows * geometry_.query_heads * geometry_.head_dim,
          "attention: the queries do not belong to the positions");
  expects(rows == 0 || (input.positions.back() + std::size_t{1}) * geometry_.kv_row_bytes() <=
                           std::min(input.cache.keys.size(), input.cache.values.size()),
          "attention: a position lies beyond the cache");
  return rows;
}

/// Lower tiles where there would be too few to share out, as long as they pay for unpacking keys and values.
template <AttentionArithmetic A>
typename BlockAttention<A>::Tiling BlockAttention<A>::tiling(RowRange rows, std::size_t threads) const {
  constexpr std::size_t fewest_scores = 96;  // rows of them in a tile
  const auto count_of = [&](std::size_t height) { return (rows.size() + height - 1) / height * geometry_.kv_heads; };
  std::size_t height = tile_rows_;
  while (count_of(height) < 4 * threads && height / 2 * group_ >= fewest_scores) height /= 2;
  return {rows, height, count_of(height)};
}

/// Longest first, so that the last ones to be handed out are short.
template <AttentionArithmetic A>
typename BlockAttention<A>::Tile BlockAttention<A>::tile(const Tiling& tiling, std::size_t index) const {
  const std::size_t kv_heads = geometry_.kv_heads;
  const std::size_t begin = tiling.rows.begin + (tiling.count / kv_heads - 1 - index / kv_heads) * tiling.height;
  return {index % kv_heads, {begin, std::min(begin + tiling.height, tiling.rows.end)}};
}

/// Floats that the partial results of some rows take, tops and sums up to whole vectors.
template <AttentionArithmetic A>
std::size_t BlockAttention<A>::partial_values(std::size_t rows) const {
  return rows * padded_dim_ + 2 * up_to_whole(rows, lane_count);
}

template <AttentionArithmetic A>
typename BlockAttention<A>::Partials BlockAttention<A>::partials(float* memory, std::size_t rows) const {
  float* const tops = memory + rows * padded_dim_;
  return {memory, tops, tops + up_to_whole(rows, lane_count)};
}

template <AttentionArithmetic A>
void BlockAttention<A>::load_queries(const AttentionInput& input, const Tile& tile, Scratch& scratch) const {
  std::int32_t* to = scratch.queries.template as<std::int32_t>().data();
  const std::size_t dim = geometry_.head_dim;
  for (std::size_t row = tile.rows.begin; row < tile.rows.end; ++row)
    for (std::size_t head = 0; head < group_; ++head, to += dim_units_) {
      const float* const from = &input.queries[(row * geometry_.query_heads + tile.kv_head * group_ + head) * dim];
      const HeadRows one{reinterpret_cast<const std::byte*>(from), 0, 1, dim};
      for (std::size_t unit = 0; unit < dim_units_; unit += lane_count)
        store_units(load_row_units<A, ElementType::f32>(one, 0, unit), to + unit);
    }
}

template <AttentionArithmetic A>
void BlockAttention<A>::load_keys(const AttentionInput& input, std::size_t kv_head, TokenRange keys,
                                  Scratch& scratch) const {
  const std::size_t stride = geometry_.kv_row_bytes(), head = kv_head * stride / geometry_.kv_heads;
  const HeadRows rows{&input.cache.keys[keys.begin * stride + head], stride, keys.size(), geometry_.head_dim};
  with_type(geometry_.cache_type, [&]<ElementType Type>() {
    unpack_transposed<A, Type>(rows, dim_units_, scratch.keys.template as<std::int32_t>().data());
  });
}

template <AttentionArithmetic A>
void BlockAttention<A>::load_values(const AttentionInput& input, std::size_t kv_head, TokenRange keys,
                                    Scratch& scratch) const {
  const std::size_t stride = geometry_.kv_row_bytes(), head = kv_head * stride / geometry_.kv_heads;
  const HeadRows rows{&input.cache.values[keys.begin * stride + head], stride, keys.size(), geometry_.head_dim};
  with_type(geometry_.cache_type, [&]<ElementType Type>() {
    unpack_rows<A, Type>(rows, padded_dim_, scratch.values.template as<std::int32_t>().data());
  });
}

/// Partial results of a tile's rows from one block of keys. Those that see none of them get `lowest` as largest score,
/// and no values.
/// @param into  [tile rows * H / G]: is overwritten, or joined with what is there
template <AttentionArithmetic A>
void BlockAttention<A>::attend_block(const AttentionInput& input, const Tile& tile, std::size_t block,
                                     const Partials& into, bool join, Scratch& scratch, const Shown& shown) const {
  constexpr std::size_t pack = Units<A>::pack;
  const std::size_t first_key = block * block_keys;
  const std::size_t end_key =
      std::min<std::size_t>(first_key + block_keys, input.positions[tile.rows.end - 1] + std::size_t{1});
  load_keys(input, tile.kv_head, {first_key, end_key}, scratch);
  load_values(input, tile.kv_head, {first_key, end_key}, scratch);
  const auto* const queries = scratch.queries.template as<std::int32_t>().data();
  const auto* const keys = scratch.keys.template as<std::int32_t>().data();
  const auto* const values = scratch.values.template as<std::int32_t>().data();
  const float scale = 1.0F / std::sqrt(static_cast<float>(geometry_.head_dim));
  const bool keep = !shown.weights.empty() || (pack == 1 && shown.lent != nullptr);
  const Partials group = partials(scratch.group.template as<float>().data(), group_rows);

  const std::size_t rows = tile.rows.size() * group_;
  for (std::size_t begin = 0; begin < rows; begin += group_rows) {
    const std::size_t count = std::min(group_rows, rows - begin);
    const Partials here{into.values + begin * padded_dim_, into.tops + begin, into.sums + begin};
    const Partials& to = join ? group : here;
    std::array<std::size_t, group_rows> limits{};
    std::size_t limit = 0;
    for (std::size_t r = 0; r < count; ++r) {
      const std::size_t seen = input.positions[tile.rows.begin + (begin + r) / group_] + std::size_t{1};
      limits[r] = std::min(seen - std::min(seen, first_key), block_keys);
      limit = std::max(limit, limits[r]);
    }
    if (limit == 0) {
      if (!join) std::fill_n(to.tops, count, lowest);
      continue;
    }
    const std::size_t scored = up_to_whole(limit, LentWeights::cell_unit);

    alignas(64) float scores[group_rows * block_keys];
    alignas(64) std::int32_t weights[group_rows * block_keys / pack];
    product<A>(count, queries + begin * dim_units_, keys, scored,
               {(geometry_.head_dim + pack - 1) / pack, dim_units_, block_keys, block_keys}, scores);
    for (std::size_t r = 0; r < count; ++r) {
      float* const row_weights = scores + r * block_keys;
      std::int32_t* const units = weights + r * block_keys / pack;
      const auto sums = keep ? soften<A, true>(row_weights, scored, limits[r], scale, units)
                             : soften<A, false>(row_weights, scored, limits[r], scale, units);
      to.tops[r] = sums.largest;
      to.sums[r] = sums.sum;
      if (limits[r] == 0) continue;
      const std::size_t row = tile.rows.begin + (begin + r) / group_,
                        head = tile.kv_head * group_ + (begin + r) % group_;
      if (!shown.weights.empty()) {
        std::memcpy(&shown.weights[weights_row(input, head, row) + first_key], row_weights, limits[r] * sizeof(float));
        shown.tops[(head * input.positions.size() + row) * all_blocks(input) + block] = sums.largest;
      }
      if (const auto* lent = shown.lent; lent != nullptr && lent->slots[row] != LentWeights::no_slot) {
        const auto cell = lent->cell(head, lent->slots[row], block);
        const std::size_t written = up_to_whole(limits[r], LentWeights::cell_unit);
        sum_bins<A>(pack == 1 ? reinterpret_cast<const std::int32_t*>(row_weights) : units, written, cell.bins);
        *cell.factor = sums.largest;  // until the row's sum is known
        // What came before bounds the row's sum from below. The margin is more than rounding can take.
        const bool negligible =
            join && exp(broadcast(sums.largest - here.tops[r]))[0] <= 0.99F * lent->negligible * here.sums[r];
        if (!negligible) lend_weights<A>(row_weights, units, written, lent->read_soon, cell.values);
      }
    }
    product<A>(count, weights, values, padded_dim_,
               {(limit + pack - 1) / pack, block_keys / pack, padded_dim_, padded_dim_}, to.values);
    if (join) join_rows(here, group, count);
  }
  finish_lending();
}

/// Joins the partial results of a later block to those of the earlier ones; rows that see none of its keys are left.
/// Never inlined, so that its sums are rounded in the same way wherever it is called.
template <AttentionArithmetic A>
[[gnu::noinline]] void BlockAttention<A>::join_rows(const Partials& state, const Partials& later,
                                                    std::size_t rows) const {
  for (std::size_t begin = 0; begin < rows; begin += lane_count) {
    alignas(64) float old_scales[lane_count], new_scales[lane_count], tops[lane_count];
    const Lanes before = load(state.tops + begin), here = load(later.tops + begin);
    const Lanes top = max(before, here);
    store(exp(before - top), old_scales);
    store(exp(here - top), new_scales);
    store(top, tops);
    const std::size_t end = std::min(begin + lane_count, rows);
    for (std::size_t row = begin; row < end; ++row) {
      if (later.tops[row] == lowest) continue;
      const float old_scale = old_scales[row - begin], new_scale = new_scales[row - begin];
      for (std::size_t at = row * padded_dim_; at < (row + 1) * padded_dim_; at += lane_count)
        store(load(state.values + at) * old_scale + load(later.values + at) * new_scale, state.values + at);
      state.tops[row] = tops[row - begin];
      state.sums[row] = state.sums[row] * old_scale + later.sums[row] * new_scale;
    }
  }
}

template <AttentionArithmetic A>
void BlockAttention<A>::write_rows(const Tile& tile, const Partials& state, std::span<float> out) const {
  const std::size_t dim = geometry_.head_dim;
  for (std::size_t row = tile.rows.begin, at = 0; row < tile.rows.end; ++row)
    for (std::size_t head = 0; head < group_; ++head, ++at) {
      float* const to = &out[(row * geometry_.query_heads + tile.kv_head * group_ + head) * dim];
      const float* const from = state.values + at * padded_dim_;
      const float inverse = 1 / state.sums[at];
      for (std::size_t d = 0; d < dim; ++d) to[d] = from[d] * inverse;
    }
}

template <AttentionArithmetic A>
std::size_t BlockAttention<A>::weights_row(const AttentionInput& input, std::size_t head, std::size_t row) {
  return (head * input.positions.size() + row) * (input.positions.back() + std::size_t{1});
}

/// Keys of the batch, in blocks.
template <AttentionArithmetic A>
std::size_t BlockAttention<A>::all_blocks(const AttentionInput& input) {
  return input.positions.back() / block_keys + 1;
}

/// @param factor_of  gives a block's factor from its largest score
template <AttentionArithmetic A>
template <class FactorOf>
void BlockAttention<A>::scale_weights(const AttentionInput& input, std::size_t row, std::size_t head,
                                      const Shown& shown, FactorOf&& factor_of) {
  const std::size_t keys = input.positions.back() + std::size_t{1}, seen = input.positions[row] + std::size_t{1};
  const float* const tops = shown.tops + (head * input.positions.size() + row) * all_blocks(input);
  float* const to = &shown.weights[weights_row(input, head, row)];
  for (std::size_t block = 0; block * block_keys < seen; ++block) {
    const float factor = factor_of(tops[block]);
    const std::size_t end = std::min(seen, (block + 1) * block_keys);
    for (std::size_t k = block * block_keys; k < end; ++k) to[k] *= factor;
  }
  std::fill(to + seen, to + keys, 0.0F);
}

/// Turns what attend_block left of a tile's weights into weights: f32 are scaled and get their zeros, lent cells get
/// their factors.
template <AttentionArithmetic A>
void BlockAttention<A>::finish_weights(const AttentionInput& input, const Tile& tile, const Partials& state,
                                       const Shown& shown) const {
  if (shown.weights.empty() && shown.lent == nullptr) return;
  for (std::size_t row = tile.rows.begin, r = 0; row < tile.rows.end; ++row) {
    const std::size_t seen = input.positions[row] + std::size_t{1}, blocks = (seen + block_keys - 1) / block_keys;
    const std::uint32_t slot = shown.lent != nullptr ? shown.lent->slots[row] : LentWeights::no_slot;
    if (shown.weights.empty() && slot == LentWeights::no_slot) {
      r += group_;
      continue;
    }
    for (std::size_t in_group = 0; in_group < group_; ++in_group, ++r) {
      const std::size_t head = tile.kv_head * group_ + in_group;
      const auto factor_of = [&](float top) { return exp(broadcast(top - state.tops[r]))[0] / state.sums[r]; };
      if (slot != LentWeights::no_slot)
        for (std::size_t block = 0; block < blocks; ++block) {
          const auto cell = shown.lent->cell(head, slot, block);
          const float factor = factor_of(*cell.factor);  // the cell's largest weight
          for (std::size_t bin = 0; bin < LentWeights::cell_bins; ++bin) cell.bins[bin] *= factor;
          *cell.factor = factor > shown.lent->negligible ? factor : 0;
        }
      if (!shown.weights.empty()) scale_weights(input, row, head, shown, factor_of);
    }
  }
}

template <AttentionArithmetic A>
void BlockAttention<A>::run(const AttentionInput& input, std::span<float> out, Workers& workers, const Shown& shown) {
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
    float* const first = (*memory).template as<float>().data();
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
    workers.parallel_for(tiles, [&](std::size_t index, std::size_t) {
      const Tile one = tile_at(index);
      for (std::size_t block = 1; block < blocks_of(one); ++block)
        join_rows(at(index, 0), at(index, block), one.rows.size() * group_);
      write_rows(one, at(index, 0), out);
      finish_weights(input, one, at(index, 0), shown);
    });
    return;
  }
  workers.parallel_for(tiles, [&](std::size_t index, std::size_t worker) {
    const Tile one = tile_at(index);
    auto& scratch = scratch_[worker];
    const Partials state = partials(scratch.state.template as<float>().data(), tile_rows_ * group_);
    load_queries(input, one, scratch);
    for (std::size_t block = 0; block < blocks_of(one); ++block)
      attend_block(input, one, block, state, block > 0, scratch, shown);
    write_rows(one, state, out);
    finish_weights(input, one, state, shown);
  });
}

template <AttentionArithmetic A>
void BlockAttention<A>::attend(const AttentionInput& input, std::span<float> out, Workers& workers,
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

template <AttentionArithmetic A>
void BlockAttention<A>::attend_and_show(const AttentionInput& input, std::span<float> out, std::span<float> weights,
                                        Workers& workers) {
  const std::size_t rows = check(input);
  if (rows == 0) return;
  expects(weights.size() == weights_row(input, geometry_.query_heads, 0), "attention: room for the weights is wrong");
  const auto tops = split_.borrow();
  (*tops).reserve(geometry_.query_heads * rows * all_blocks(input) * sizeof(float));
  run(input, out, workers, {weights, (*tops).template as<float>().data(), nullptr});
}

template <AttentionArithmetic A>
void BlockAttention<A>::weights(const AttentionInput& input, RowRange rows, std::span<float> weights,
                                Workers& workers) {
  constexpr std::size_t pack = Units<A>::pack;
  const std::size_t all_rows = check(input);
  expects(rows.begin < rows.end && rows.end <= all_rows, "attention: the rows lie outside the batch");
  expects(workers.threads() <= scratch_.size(), "attention: made for fewer threads");
  const std::size_t keys = input.positions[rows.end - 1] + std::size_t{1};
  expects(weights.size() == geometry_.query_heads * rows.size() * keys, "attention: room for the weights is wrong");
  const float scale = 1.0F / std::sqrt(static_cast<float>(geometry_.head_dim));
  const Tiling cut = tiling(rows, workers.threads());
  workers.parallel_for(cut.count, [&](std::size_t index, std::size_t worker) {
    const Tile one = tile(cut, index);
    auto& scratch = scratch_[worker];
    const auto row_of = [&](std::size_t row, std::size_t head) {
      return &weights[((one.kv_head * group_ + head) * rows.size() + row - rows.begin) * keys];
    };
    load_queries(input, one, scratch);
    const auto* const queries = scratch.queries.template as<std::int32_t>().data();
    for (std::size_t first = 0; first < keys; first += block_keys) {
      const std::size_t count = std::min(block_keys, keys - first);
      load_keys(input, one.kv_head, {first, first + count}, scratch);
      const std::size_t tile_row_count = one.rows.size() * group_;
      for (std::size_t begin = 0; begin < tile_row_count; begin += group_rows) {
        const std::size_t some = std::min(group_rows, tile_row_count - begin);
        const auto row_and_head = [&](std::size_t r) {
          return std::pair(one.rows.begin + (begin + r) / group_, (begin + r) % group_);
        };
        if (input.positions[row_and_head(some - 1).first] < first) continue;  // none of them sees these keys
        alignas(64) float scores[group_rows * block_keys];
        product<A>(some, queries + begin * dim_units_, scratch.keys.template as<std::int32_t>().data(),
                   up_to_whole(count, key_tile),
                   {(geometry_.head_dim + pack - 1) / pack, dim_units_, block_keys, block_keys}, scores);
        for (std::size_t r = 0; r < some; ++r) {
          const auto [row, head] = row_and_head(r);
          std::memcpy(row_of(row, head) + first, scores + r * block_keys, count * sizeof(float));
        }
      }
    }
    for (std::size_t row = one.rows.begin; row < one.rows.end; ++row)
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

template class BlockAttention<F32Arithmetic>;
template class BlockAttention<Bf16Arithmetic>;

}  // namespace krul
