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
constexpr std::size_t tile_height = lane_count == 16 ? 12 : 6;
constexpr std::size_t tile_width = 2;  // vectors
// Query rows whose scores are worked on together, one in each lane, so that softmax needs no sums across lanes.
constexpr std::size_t group_rows = tile_width * lane_count;
constexpr std::size_t cell_unit = LentWeights::cell_unit;
static_assert(block_keys % cell_unit == 0 && cell_unit % (2 * lane_count) == 0);

constexpr float lowest = -3.4e38F;  // the largest of no scores

constexpr std::size_t up_to_whole(std::size_t value, std::size_t unit) {
  return (value + unit - 1) / unit * unit;
}

/// Calls call.operator()<number>() for a number that is known only now, 1 to Most.
template <std::size_t Most, class Call>
void with_number(std::size_t number, Call&& call) {
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    ((number == I + 1 ? call.template operator()<I + 1>() : void()), ...);
  }
  (std::make_index_sequence<Most>());
}

/// A product of some rows with some columns: sums over `count` units, in their order.
struct ProductShape {
  std::size_t count;
  std::size_t left_stride;
  std::size_t right_stride;
  std::size_t out_stride;
};
/// Whether the units of one row follow one another, or the rows of one unit do.
enum class Left { by_rows, by_units };

/// @param left    [Rows, left_stride] units, or [count, left_stride] if by units
/// @param right   [count, right_stride] units, at the tile's first column
/// @param out     [Rows, out_stride], at the tile's first column
template <class Arithmetic, Left Order, std::size_t Rows, std::size_t Vectors>
void product_tile(const std::int32_t* left, const std::int32_t* right, const ProductShape& shape, float* out) {
  Lanes sums[Rows][Vectors] = {};
  for (std::size_t k = 0; k < shape.count; ++k) {
    IntLanes column[Vectors];
    for (std::size_t v = 0; v < Vectors; ++v) column[v] = load_units(right + k * shape.right_stride + v * lane_count);
    for (std::size_t r = 0; r < Rows; ++r) {
      const IntLanes row =
          broadcast_unit(Order == Left::by_rows ? left + r * shape.left_stride + k : left + k * shape.left_stride + r);
      for (std::size_t v = 0; v < Vectors; ++v) sums[r][v] = Units<Arithmetic>::dot(sums[r][v], row, column[v]);
    }
  }
  for (std::size_t r = 0; r < Rows; ++r)
    for (std::size_t v = 0; v < Vectors; ++v) store(sums[r][v], out + r * shape.out_stride + v * lane_count);
}

/// Lanes of a vector that starts at `first` and lie below `limit`.
IntLanes below(std::size_t first, std::size_t limit) {
  return lane_numbers() < static_cast<std::int32_t>(limit) - static_cast<std::int32_t>(first);
}

/// Lanes whose queries see a key of the block: those that see more than `key` of its keys.
IntLanes seeing(std::size_t key, const std::int32_t* limits) {
  return static_cast<std::int32_t>(key) < load_units(limits);
}

/// The scores of a group of queries, and the weights that come of them.
struct ScoreGroup {
  const std::int32_t* limits;  ///< [group_rows] how many of the block's keys each query sees
  std::size_t seen_by_all;     ///< the least of these
  std::size_t keys;            ///< the largest of these, up to whole cell units
  float scale;
  float* scores;          ///< [keys, group_rows]
  std::int32_t* weights;  ///< [keys / pack, group_rows] units
  float* tops;            ///< [group_rows] largest visible score, scaled; `lowest` if none is visible
  float* sums;            ///< [group_rows] of the weights
};

struct KeyUnits {
  const std::int32_t* first;  ///< [group.keys, stride]
  std::size_t stride;
};
struct QueryUnits {
  const std::int32_t* first;  ///< [dim, group_rows]
  std::size_t dim;
};

/// Scores, and the largest of each query.
/// @param load_up_to  is told how many keys are about to be used
template <class Arithmetic, std::size_t Vectors, class Load>
void score(const ScoreGroup& group, const KeyUnits& keys, const QueryUnits& queries, Load&& load_up_to) {
  const ProductShape shape{queries.dim, keys.stride, group_rows, group_rows};
  Lanes largest[Vectors];
  for (auto& lanes : largest) lanes = broadcast(lowest);
  for (std::size_t begin = 0; begin < group.keys; begin += tile_height) {
    const std::size_t end = std::min(begin + tile_height, group.keys);
    load_up_to(end);
    with_number<tile_height>(end - begin, [&]<std::size_t Rows>() {
      product_tile<Arithmetic, Left::by_rows, Rows, Vectors>(keys.first + begin * keys.stride, queries.first, shape,
                                                             group.scores + begin * group_rows);
    });
    for (std::size_t key = begin; key < end; ++key)
      for (std::size_t v = 0; v < Vectors; ++v) {
        Lanes here = load(group.scores + key * group_rows + v * lane_count);
        if (key >= group.seen_by_all)
          here = select(seeing(key, group.limits + v * lane_count), here, broadcast(lowest));
        largest[v] = max(largest[v], here);
      }
  }
  for (std::size_t v = 0; v < Vectors; ++v) {
    const IntLanes any = seeing(0, group.limits + v * lane_count);
    store(select(any, largest[v] * group.scale, broadcast(lowest)), group.tops + v * lane_count);
  }
}

/// The weights e^(scale * score - top) of what a query sees, 0 for the others, as units, and their sums. If Keep, they
/// take the scores' place too.
template <class Arithmetic, bool Keep, std::size_t Vectors>
void soften(const ScoreGroup& group) {
  constexpr std::size_t pack = Units<Arithmetic>::pack;
  Lanes tops[Vectors], sums[Vectors] = {};
  for (std::size_t v = 0; v < Vectors; ++v) tops[v] = load(group.tops + v * lane_count);
  const auto unit = [&](std::size_t first, auto&& mask) {  // so many sums are short: less is lost in rounding
    Lanes part[Vectors] = {};
    for (std::size_t key = first; key < first + cell_unit; key += pack)
      for (std::size_t v = 0; v < Vectors; ++v) {
        std::array<Lanes, pack> weight;
        for (std::size_t p = 0; p < pack; ++p) {
          float* const at = group.scores + (key + p) * group_rows + v * lane_count;
          weight[p] = mask(key + p, v, Units<Arithmetic>::weight(load(at), group.scale, tops[v]));
          part[v] += weight[p];
          if constexpr (Keep) store(weight[p], at);
        }
        store_units(Units<Arithmetic>::column(weight), group.weights + key / pack * group_rows + v * lane_count);
      }
    for (std::size_t v = 0; v < Vectors; ++v) sums[v] += part[v];
  };
  const std::size_t whole = group.seen_by_all / cell_unit * cell_unit;
  for (std::size_t key = 0; key < whole; key += cell_unit)
    unit(key, [](std::size_t, std::size_t, Lanes weight) { return weight; });
  for (std::size_t key = whole; key < group.keys; key += cell_unit)
    unit(key, [&](std::size_t at, std::size_t v, Lanes weight) {
      return select(seeing(at, group.limits + v * lane_count), weight, Lanes{});
    });
  for (std::size_t v = 0; v < Vectors; ++v) store(sums[v], group.sums + v * lane_count);
}

/// Weights times values.
/// @param values  [group.keys / pack, columns] units, columns whole vectors
/// @param seen    keys that any of the queries sees
/// @param out     [rows, columns]
template <class Arithmetic>
void weigh(const ScoreGroup& group, std::size_t seen, std::size_t rows, const std::int32_t* values, std::size_t columns,
           float* out) {
  constexpr std::size_t pack = Units<Arithmetic>::pack;
  const ProductShape shape{(seen + pack - 1) / pack, group_rows, columns, columns};
  for (std::size_t at = 0; at < columns; at += tile_width * lane_count)
    for (std::size_t begin = 0; begin < rows; begin += tile_height)
      with_number<tile_height>(std::min(tile_height, rows - begin), [&]<std::size_t Rows>() {
        const auto run = [&]<std::size_t Vectors>() {
          product_tile<Arithmetic, Left::by_units, Rows, Vectors>(group.weights + begin, values + at, shape,
                                                                  out + begin * columns + at);
        };
        if (at + lane_count < columns)
          run.template operator()<tile_width>();
        else
          run.template operator()<1>();
      });
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

/// Turns rows into columns, in place.
void transpose(IntLanes* square) {
  constexpr auto lanes = std::make_index_sequence<lane_count>();
  if constexpr (lane_count > 8) swap_across<8>(square, lanes);
  if constexpr (lane_count > 4) swap_across<4>(square, lanes);
  swap_across<2>(square, lanes);
  swap_across<1>(square, lanes);
}

/// Rows of their own for the queries of a group.
/// @param from  [count, group_rows] units, count whole vectors
/// @param to    [rows up to whole vectors, stride] units
void transpose_group(const std::int32_t* from, std::size_t count, std::size_t rows, std::size_t stride,
                     std::int32_t* to) {
  for (std::size_t row = 0; row < rows; row += lane_count)
    for (std::size_t k = 0; k < count; k += lane_count) {
      IntLanes square[lane_count];
      for (std::size_t i = 0; i < lane_count; ++i) square[i] = load_units(from + (k + i) * group_rows + row);
      transpose(square);
      for (std::size_t i = 0; i < lane_count; ++i) store_units(square[i], to + (row + i) * stride + k);
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

/// @param to  [count, dim_units] units; 0 for rows that there are not
template <class Arithmetic, ElementType Type>
void unpack_keys(const HeadRows& rows, std::size_t count, std::size_t dim_units, std::int32_t* to) {
  for (std::size_t row = 0; row < count; ++row, to += dim_units) {
    fetch_ahead<Type>(rows, row);
    for (std::size_t unit = 0; unit < dim_units; unit += lane_count)
      store_units(load_row_units<Arithmetic, Type>(rows, row, unit), to + unit);
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
/// @param units  [count] weights as units, count whole cell units
template <class Arithmetic>
void lend_weights(const std::int32_t* units, std::size_t count, [[maybe_unused]] bool read_soon, std::uint16_t* to) {
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
    for (std::size_t k = 0; k < count; k += 2 * lane_count) {
      const IntLanes rounded =
          Units<Bf16Arithmetic>::row({as_floats(load_units(units + k)), as_floats(load_units(units + k + lane_count))});
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
  const std::size_t rows = up_to_whole(tile_rows_ * group_, group_rows);
  for (auto& scratch : scratch_) {
    scratch.queries = AlignedBuffer(rows * dim_units_ * sizeof(std::int32_t));
    scratch.keys = AlignedBuffer(block_keys * dim_units_ * sizeof(std::int32_t));
    scratch.values = AlignedBuffer(block_keys / Units<A>::pack * padded_dim_ * sizeof(std::int32_t));
    scratch.scores = AlignedBuffer(block_keys * group_rows * sizeof(float));
    scratch.weights = AlignedBuffer(block_keys / Units<A>::pack * group_rows * sizeof(std::int32_t));
    scratch.shown = AlignedBuffer(group_rows * block_keys * sizeof(float));
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
  std::int32_t* const to = scratch.queries.template as<std::int32_t>().data();
  const std::size_t dim = geometry_.head_dim, count = tile.rows.size() * group_;
  const auto row_at = [&](std::size_t at) {
    const std::size_t row = tile.rows.begin + at / group_, head = tile.kv_head * group_ + at % group_;
    return HeadRows{reinterpret_cast<const std::byte*>(&input.queries[(row * geometry_.query_heads + head) * dim]), 0,
                    1, dim};
  };
  for (std::size_t first = 0; first < count; first += lane_count)
    for (std::size_t unit = 0; unit < dim_units_; unit += lane_count) {
      IntLanes square[lane_count] = {};
      for (std::size_t i = 0; i < std::min(lane_count, count - first); ++i)
        square[i] = load_row_units<A, ElementType::f32>(row_at(first + i), 0, unit);
      transpose(square);
      std::int32_t* const group = to + first / group_rows * group_rows * dim_units_ + first % group_rows;
      for (std::size_t i = 0; i < lane_count; ++i) store_units(square[i], group + (unit + i) * group_rows);
    }
}

/// Some keys of a block, zeros where there are none. Their values are brought near meanwhile.
template <AttentionArithmetic A>
void BlockAttention<A>::load_keys(const AttentionInput& input, std::size_t kv_head, TokenRange keys,
                                  Scratch& scratch) const {
  const std::size_t stride = geometry_.kv_row_bytes(), bytes = stride / geometry_.kv_heads, head = kv_head * bytes;
  const std::size_t there = input.positions.back() + std::size_t{1};
  const HeadRows rows{input.cache.keys.data() + keys.begin * stride + head, stride, there - std::min(there, keys.begin),
                      geometry_.head_dim};
  std::int32_t* const to = scratch.keys.template as<std::int32_t>().data() + keys.begin % block_keys * dim_units_;
  with_type(geometry_.cache_type, [&]<ElementType Type>() { unpack_keys<A, Type>(rows, keys.size(), dim_units_, to); });
  constexpr std::size_t line = 64;
  for (std::size_t key = keys.begin; key < std::min(keys.end, there); ++key)
    for (std::size_t byte = 0; byte < bytes; byte += line)
      __builtin_prefetch(input.cache.values.data() + key * stride + head + byte, 0, 2);
}

/// Some values of a block, from a whole unit on.
template <AttentionArithmetic A>
void BlockAttention<A>::load_values(const AttentionInput& input, std::size_t kv_head, TokenRange keys,
                                    Scratch& scratch) const {
  const std::size_t stride = geometry_.kv_row_bytes(), head = kv_head * stride / geometry_.kv_heads;
  const HeadRows rows{&input.cache.values[keys.begin * stride + head], stride, keys.size(), geometry_.head_dim};
  std::int32_t* const to =
      scratch.values.template as<std::int32_t>().data() + keys.begin % block_keys / Units<A>::pack * padded_dim_;
  with_type(geometry_.cache_type, [&]<ElementType Type>() { unpack_rows<A, Type>(rows, padded_dim_, to); });
}

/// Partial results of a tile's rows from one block of keys. Those that see none of them get `lowest` as largest score,
/// and no values.
/// @param into  [tile rows * H / G]: is overwritten, or joined with what is there
template <AttentionArithmetic A>
void BlockAttention<A>::attend_block(const AttentionInput& input, const Tile& tile, std::size_t block,
                                     const Partials& into, bool join, Scratch& scratch, const Shown& shown) const {
  constexpr std::size_t pack = Units<A>::pack;
  const std::size_t first_key = block * block_keys;
  std::size_t loaded_keys = 0, loaded_values = 0;  // of the block; more as later rows see more
  const auto* const queries = scratch.queries.template as<std::int32_t>().data();
  const auto* const keys = scratch.keys.template as<std::int32_t>().data();
  const auto* const values = scratch.values.template as<std::int32_t>().data();
  const std::size_t dim = (geometry_.head_dim + pack - 1) / pack;
  const bool keep = !shown.weights.empty();
  const Partials partial = partials(scratch.group.template as<float>().data(), group_rows);

  const std::size_t rows = tile.rows.size() * group_;
  for (std::size_t begin = 0; begin < rows; begin += group_rows) {
    const std::size_t count = std::min(group_rows, rows - begin);
    const Partials here{into.values + begin * padded_dim_, into.tops + begin, into.sums + begin};
    const Partials& to = join ? partial : here;
    const auto row_of = [&](std::size_t r) { return tile.rows.begin + (begin + r) / group_; };
    alignas(64) std::int32_t limits[group_rows];  // keys of the block that each query sees
    for (std::size_t r = 0; r < group_rows; ++r) {
      const std::size_t seen = input.positions[row_of(std::min(r, count - 1))] + std::size_t{1};
      limits[r] = static_cast<std::int32_t>(std::min(seen - std::min(seen, first_key), block_keys));
    }
    const auto seen = static_cast<std::size_t>(limits[count - 1]);  // rows ascend
    if (seen == 0) {
      if (!join) std::fill_n(to.tops, count, lowest);
      continue;
    }
    alignas(64) float tops[group_rows], sums[group_rows];
    const ScoreGroup group{.limits = limits,
                           .seen_by_all = static_cast<std::size_t>(limits[0]),
                           .keys = up_to_whole(seen, cell_unit),
                           .scale = 1.0F / std::sqrt(static_cast<float>(geometry_.head_dim)),
                           .scores = scratch.scores.template as<float>().data(),
                           .weights = scratch.weights.template as<std::int32_t>().data(),
                           .tops = tops,
                           .sums = sums};
    with_number<tile_width>((count + lane_count - 1) / lane_count, [&]<std::size_t Vectors>() {
      score<A, Vectors>(group, {keys, dim_units_}, {queries + begin * dim_units_, dim}, [&](std::size_t end) {
        if (end <= loaded_keys) return;
        load_keys(input, tile.kv_head, {first_key + loaded_keys, first_key + end}, scratch);
        loaded_keys = end;
      });
      keep ? soften<A, true, Vectors>(group) : soften<A, false, Vectors>(group);
    });
    std::copy_n(tops, count, to.tops);
    std::copy_n(sums, count, to.sums);

    if (keep) {
      float* const shown_rows = scratch.shown.template as<float>().data();
      transpose_group(reinterpret_cast<const std::int32_t*>(group.scores), group.keys, count, block_keys,
                      scratch.shown.template as<std::int32_t>().data());
      for (std::size_t r = 0; r < count; ++r) {
        if (limits[r] == 0) continue;
        const std::size_t row = row_of(r), head = tile.kv_head * group_ + (begin + r) % group_;
        std::copy_n(shown_rows + r * block_keys, limits[r], &shown.weights[weights_row(input, head, row) + first_key]);
        shown.tops[(head * input.positions.size() + row) * all_blocks(input) + block] = tops[r];
      }
    }
    if (const auto* lent = shown.lent;
        lent != nullptr && std::any_of(&lent->slots[row_of(0)], &lent->slots[row_of(count - 1)] + 1,
                                       [](std::uint32_t slot) { return slot != LentWeights::no_slot; })) {
      auto* const shown_rows = scratch.shown.template as<std::int32_t>().data();
      transpose_group(group.weights, group.keys / pack, count, block_keys / pack, shown_rows);
      for (std::size_t r = 0; r < count; ++r) {
        const std::size_t row = row_of(r), head = tile.kv_head * group_ + (begin + r) % group_;
        if (limits[r] == 0 || lent->slots[row] == LentWeights::no_slot) continue;
        const std::int32_t* const units = shown_rows + r * (block_keys / pack);
        const auto cell = lent->cell(head, lent->slots[row], block);
        const std::size_t written = up_to_whole(static_cast<std::size_t>(limits[r]), cell_unit);
        sum_bins<A>(units, written, cell.bins);
        *cell.factor = tops[r];  // until the row's sum is known
        // What came before bounds the row's sum from below. The margin is more than rounding can take.
        const bool negligible =
            join && exp(broadcast(tops[r] - here.tops[r]))[0] <= 0.99F * lent->negligible * here.sums[r];
        if (!negligible) lend_weights<A>(units, written, lent->read_soon, cell.values);
      }
    }
    if (seen > loaded_values) {
      load_values(input, tile.kv_head, {first_key + loaded_values / pack * pack, first_key + seen}, scratch);
      loaded_values = seen;
    }
    weigh<A>(group, seen, count, values, padded_dim_, to.values);
    if (join) join_rows(here, partial, count);
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
    const auto join_tile = [&](std::size_t index, std::size_t) {
      const Tile one = tile_at(index);
      for (std::size_t block = 1; block < blocks_of(one); ++block)
        join_rows(at(index, 0), at(index, block), one.rows.size() * group_);
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
      load_keys(input, one.kv_head, {first, first + up_to_whole(count, cell_unit)}, scratch);
      const std::size_t tile_row_count = one.rows.size() * group_;
      for (std::size_t begin = 0; begin < tile_row_count; begin += group_rows) {
        const std::size_t some = std::min(group_rows, tile_row_count - begin);
        const auto row_and_head = [&](std::size_t r) {
          return std::pair(one.rows.begin + (begin + r) / group_, (begin + r) % group_);
        };
        if (input.positions[row_and_head(some - 1).first] < first) continue;  // none of them sees these keys
        alignas(64) const std::int32_t limits[group_rows] = {};               // of no use here, as are the tops
        alignas(64) float tops[group_rows];
        const ScoreGroup group{.limits = limits,
                               .seen_by_all = 0,
                               .keys = up_to_whole(count, cell_unit),
                               .scale = scale,
                               .scores = scratch.scores.template as<float>().data(),
                               .weights = nullptr,
                               .tops = tops,
                               .sums = nullptr};
        score<A, tile_width>(group, {scratch.keys.template as<std::int32_t>().data(), dim_units_},
                             {queries + begin * dim_units_, (geometry_.head_dim + pack - 1) / pack},
                             [](std::size_t) {});
        transpose_group(reinterpret_cast<const std::int32_t*>(group.scores), group.keys, some, block_keys,
                        scratch.shown.template as<std::int32_t>().data());
        for (std::size_t r = 0; r < some; ++r) {
          const auto [row, head] = row_and_head(r);
          std::memcpy(row_of(row, head) + first, scratch.shown.template as<float>().data() + r * block_keys,
                      count * sizeof(float));
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
