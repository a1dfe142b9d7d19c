// Attention's innermost loops by the compilers' vector extension.
#include "../attention_kernels.hpp"

#include "attention_units.hpp"
#include "krul/backend/attention_observer.hpp"

namespace krul::detail {
namespace {

// A register tile: its sums fill three quarters of the registers.
constexpr std::size_t tile_height = lane_count == 16 ? 12 : 6;
constexpr std::size_t tile_width = 2;  // vectors
constexpr std::size_t group_rows = tile_width * lane_count;
constexpr std::size_t cell_unit = LentWeights::cell_unit;
static_assert(cell_unit % (2 * lane_count) == 0);

constexpr std::size_t smaller(std::size_t a, std::size_t b) {
  return a < b ? a : b;
}

/// Calls call.operator()<number>() for a number that is known only now, 1 to Most.
template <std::size_t Most, class Call>
void with_number(std::size_t number, const Call& call) {
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    ((number == I + 1 ? call.template operator()<I + 1>() : void()), ...);
  }
  (std::make_index_sequence<Most>());
}

/// Calls call.operator()<type>() for a type that is known only now.
template <class Call>
void with_type(ElementType type, const Call& call) {
  if (type == ElementType::f32) return call.template operator()<ElementType::f32>();
  if (type == ElementType::f16) return call.template operator()<ElementType::f16>();
  call.template operator()<ElementType::bf16>();
}

// ---- products ----

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
template <class Units, Left Order, std::size_t Rows, std::size_t Vectors>
void product_tile(const std::int32_t* left, const std::int32_t* right, const ProductShape& shape, float* out) {
  Lanes sums[Rows][Vectors] = {};
  for (std::size_t k = 0; k < shape.count; ++k) {
    IntLanes column[Vectors];
    for (std::size_t v = 0; v < Vectors; ++v) column[v] = load_units(right + k * shape.right_stride + v * lane_count);
    for (std::size_t r = 0; r < Rows; ++r) {
      const IntLanes row =
          broadcast_unit(Order == Left::by_rows ? left + r * shape.left_stride + k : left + k * shape.left_stride + r);
      for (std::size_t v = 0; v < Vectors; ++v) sums[r][v] = Units::dot(sums[r][v], row, column[v]);
    }
  }
  for (std::size_t r = 0; r < Rows; ++r)
    for (std::size_t v = 0; v < Vectors; ++v) store(sums[r][v], out + r * shape.out_stride + v * lane_count);
}

/// Lanes whose queries see a key of the block: those that see more than `key` of its keys.
inline IntLanes seeing(std::size_t key, const std::int32_t* limits) {
  return static_cast<std::int32_t>(key) < load_units(limits);
}

template <class Units, std::size_t Vectors>
void score_vectors(const ScoreGroup& group, const ScoreOperands& operands) {
  const ProductShape shape{operands.dim_units, operands.stride, group_rows, group_rows};
  Lanes largest[Vectors];
  for (std::size_t v = 0; v < Vectors; ++v)
    largest[v] = operands.begin == 0 ? broadcast(lowest_score) : load(group.tops + v * lane_count);
  for (std::size_t begin = operands.begin; begin < operands.end; begin += tile_height) {
    const std::size_t end = smaller(begin + tile_height, operands.end);
    with_number<tile_height>(end - begin, [&]<std::size_t Rows>() {
      product_tile<Units, Left::by_rows, Rows, Vectors>(operands.keys + begin * operands.stride, operands.queries,
                                                        shape, group.scores + begin * group_rows);
    });
    for (std::size_t key = begin; key < end; ++key)
      for (std::size_t v = 0; v < Vectors; ++v) {
        Lanes here = load(group.scores + key * group_rows + v * lane_count);
        if (key >= group.seen_by_all)
          here = select(seeing(key, group.limits + v * lane_count), here, broadcast(lowest_score));
        largest[v] = max(largest[v], here);
      }
  }
  for (std::size_t v = 0; v < Vectors; ++v) {
    const IntLanes any = seeing(0, group.limits + v * lane_count);
    const Lanes top =
        operands.end < group.keys ? largest[v] : select(any, largest[v] * group.scale, broadcast(lowest_score));
    store(top, group.tops + v * lane_count);
  }
}

template <class Units>
void score(const ScoreGroup& group, const ScoreOperands& operands) {
  with_number<tile_width>(group.vectors,
                          [&]<std::size_t Vectors>() { score_vectors<Units, Vectors>(group, operands); });
}

template <class Units, bool Keep, std::size_t Vectors>
void soften_vectors(const ScoreGroup& group) {
  constexpr std::size_t pack = Units::pack;
  Lanes tops[Vectors], sums[Vectors] = {};
  for (std::size_t v = 0; v < Vectors; ++v) tops[v] = load(group.tops + v * lane_count);
  const auto unit = [&](std::size_t first, const auto& mask) {  // so many sums are short: less is lost in rounding
    Lanes part[Vectors] = {};
    for (std::size_t key = first; key < first + cell_unit; key += pack)
      for (std::size_t v = 0; v < Vectors; ++v) {
        Lanes weight[pack];
        for (std::size_t p = 0; p < pack; ++p) {
          float* const at = group.scores + (key + p) * group_rows + v * lane_count;
          weight[p] = mask(key + p, v, Units::weight(load(at), group.scale, tops[v]));
          part[v] += weight[p];
          if constexpr (Keep) store(weight[p], at);
        }
        store_units(Units::column(weight), group.weights + key / pack * group_rows + v * lane_count);
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

template <class Units>
void soften(const ScoreGroup& group, bool keep) {
  with_number<tile_width>(group.vectors, [&]<std::size_t Vectors>() {
    keep ? soften_vectors<Units, true, Vectors>(group) : soften_vectors<Units, false, Vectors>(group);
  });
}

template <class Units>
void weigh(const WeightedSum& sum) {
  const ProductShape shape{(sum.seen + Units::pack - 1) / Units::pack, group_rows, sum.columns, sum.columns};
  for (std::size_t at = 0; at < sum.columns; at += tile_width * lane_count)
    for (std::size_t begin = 0; begin < sum.rows; begin += tile_height)
      with_number<tile_height>(smaller(tile_height, sum.rows - begin), [&]<std::size_t Rows>() {
        const auto run = [&]<std::size_t Vectors>() {
          product_tile<Units, Left::by_units, Rows, Vectors>(sum.weights + begin, sum.values + at, shape,
                                                             sum.out + begin * sum.columns + at);
        };
        if (at + lane_count < sum.columns)
          run.template operator()<tile_width>();
        else
          run.template operator()<1>();
      });
}

// ---- rows to lanes and back ----

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
inline void transpose_square(IntLanes* square) {
  constexpr auto lanes = std::make_index_sequence<lane_count>();
  if constexpr (lane_count > 8) swap_across<8>(square, lanes);
  if constexpr (lane_count > 4) swap_across<4>(square, lanes);
  swap_across<2>(square, lanes);
  swap_across<1>(square, lanes);
}

inline void transpose(const std::int32_t* from, std::size_t count, std::size_t rows, std::size_t stride,
                      std::int32_t* to) {
  for (std::size_t row = 0; row < rows; row += lane_count)
    for (std::size_t k = 0; k < count; k += lane_count) {
      IntLanes square[lane_count];
      for (std::size_t i = 0; i < lane_count; ++i) square[i] = load_units(from + (k + i) * group_rows + row);
      transpose_square(square);
      for (std::size_t i = 0; i < lane_count; ++i) store_units(square[i], to + (row + i) * stride + k);
    }
}

// ---- unpacking ----

/// Values [d, d + lane_count) of a row of `dim`; those beyond its end are 0.
template <ElementType Type>
Lanes load_part(const std::byte* row, std::size_t dim, std::size_t d) {
  constexpr std::size_t value_bytes = Type == ElementType::f32 ? 4 : 2;
  if (d + lane_count <= dim) return load_as<Type>(row + d * value_bytes);
  std::byte padded[lane_count * value_bytes] = {};
  if (d < dim) __builtin_memcpy(padded, row + d * value_bytes, (dim - d) * value_bytes);
  return load_as<Type>(padded);
}

/// Asks for a row some iterations ahead: neighbouring rows of one head lie too far apart for the processor to guess.
template <ElementType Type>
void fetch_ahead(const HeadRows& rows, std::size_t row) {
  constexpr std::size_t ahead = 32, line = 64, value_bytes = Type == ElementType::f32 ? 4 : 2;
  const std::byte* const from = rows.first + (row + ahead) * rows.stride;
  for (std::size_t byte = 0; byte < rows.dim * value_bytes; byte += line) __builtin_prefetch(from + byte);
}

/// Units [unit, unit + lane_count) of a row.
template <class Units, ElementType Type>
IntLanes load_row_units(const std::byte* row, std::size_t dim, std::size_t unit) {
  Lanes part[Units::pack];
  for (std::size_t p = 0; p < Units::pack; ++p)
    part[p] = load_part<Type>(row, dim, unit * Units::pack + p * lane_count);
  return Units::row(part);
}

template <class Units>
void load_queries(const QueryRows& rows, std::size_t dim_units, std::int32_t* to) {
  for (std::size_t first = 0; first < rows.count; first += lane_count)
    for (std::size_t unit = 0; unit < dim_units; unit += lane_count) {
      IntLanes square[lane_count] = {};
      for (std::size_t i = 0; i < smaller(lane_count, rows.count - first); ++i) {
        const std::size_t at = first + i;
        const float* const row = rows.first + at / rows.heads * rows.stride + at % rows.heads * rows.dim;
        square[i] = load_row_units<Units, ElementType::f32>(reinterpret_cast<const std::byte*>(row), rows.dim, unit);
      }
      transpose_square(square);
      std::int32_t* const group = to + first / group_rows * group_rows * dim_units + first % group_rows;
      for (std::size_t i = 0; i < lane_count; ++i) store_units(square[i], group + (unit + i) * group_rows);
    }
}

template <class Units>
void unpack_keys(ElementType type, const HeadRows& rows, std::size_t count, std::size_t dim_units, std::int32_t* to) {
  with_type(type, [&]<ElementType Type>() {
    const std::size_t there = smaller(count, rows.count);
    std::int32_t* at = to;
    for (std::size_t row = 0; row < there; ++row, at += dim_units) {
      fetch_ahead<Type>(rows, row);
      for (std::size_t unit = 0; unit < dim_units; unit += lane_count)
        store_units(load_row_units<Units, Type>(rows.first + row * rows.stride, rows.dim, unit), at + unit);
    }
    __builtin_memset(at, 0, (count - there) * dim_units * sizeof *at);
  });
}

template <class Units>
void unpack_values(ElementType type, const HeadRows& rows, std::size_t padded_dim, std::int32_t* to) {
  with_type(type, [&]<ElementType Type>() {
    std::int32_t* at = to;
    for (std::size_t row = 0; row < rows.count; row += Units::pack, at += padded_dim) {
      for (std::size_t p = 0; p < Units::pack; ++p) fetch_ahead<Type>(rows, row + p);
      for (std::size_t d = 0; d < padded_dim; d += lane_count) {
        Lanes part[Units::pack];
        for (std::size_t p = 0; p < Units::pack; ++p)
          part[p] = row + p < rows.count ? load_part<Type>(rows.first + (row + p) * rows.stride, rows.dim, d) : Lanes{};
        store_units(Units::column(part), at + d);
      }
    }
  });
}

// ---- weights that are kept, partial results ----

template <class Units>
void lend_weights(const std::int32_t* units, std::size_t count, [[maybe_unused]] bool read_soon, std::uint16_t* to) {
  if constexpr (Units::pack == 2) {
#if defined(__AVX512F__)
    if (!read_soon) {
      for (std::size_t k = 0; k < count; k += 32)
        _mm512_stream_si512(reinterpret_cast<__m512i*>(to + k), (__m512i)load_units(units + k / 2));
      return;
    }
#endif
    __builtin_memcpy(to, units, count * sizeof(std::uint16_t));
  } else {
    for (std::size_t k = 0; k < count; k += 2 * lane_count) {
      const Lanes weights[2] = {as_floats(load_units(units + k)), as_floats(load_units(units + k + lane_count))};
      store_as_bf16(weights, to + k);
    }
  }
}

template <class Units>
void sum_bins(const std::int32_t* units, std::size_t count, float* bins) {
  constexpr std::size_t pack = Units::pack, step = pack * lane_count;
  Lanes ones[pack];
  for (Lanes& lanes : ones) lanes = broadcast(1);
  const IntLanes one = Units::row(ones);
  for (std::size_t bin = 0; bin < LentWeights::cell_bins; ++bin) {
    Lanes sum{};
    const std::size_t end = smaller(count, (bin + 1) * LentWeights::bin_keys);
    for (std::size_t k = bin * LentWeights::bin_keys; k < end; k += step)
      sum = Units::dot(sum, load_units(units + k / pack), one);
    bins[bin] = sum_of(sum);
  }
}

inline void join(const Partials& state, const Partials& later, std::size_t rows, std::size_t columns) {
  for (std::size_t begin = 0; begin < rows; begin += lane_count) {
    alignas(64) float old_scales[lane_count], new_scales[lane_count], tops[lane_count];
    const Lanes before = load(state.tops + begin), here = load(later.tops + begin);
    const Lanes top = max(before, here);
    store(exp(before - top), old_scales);
    store(exp(here - top), new_scales);
    store(top, tops);
    const std::size_t end = smaller(begin + lane_count, rows);
    for (std::size_t row = begin; row < end; ++row) {
      if (later.tops[row] == lowest_score) continue;
      const float old_scale = old_scales[row - begin], new_scale = new_scales[row - begin];
      for (std::size_t at = row * columns; at < (row + 1) * columns; at += lane_count)
        store(multiply_add(load(state.values + at), old_scale, load(later.values + at) * new_scale), state.values + at);
      state.tops[row] = tops[row - begin];
      state.sums[row] = multiply_add(state.sums[row], old_scale, later.sums[row] * new_scale);
    }
  }
}

inline void softmax(float* scores, std::size_t count, float scale) {
  float largest = lowest_score;
  for (std::size_t k = 0; k < count; ++k) largest = largest < scores[k] ? scores[k] : largest;
  const float top = largest * scale;
  double sum = 0;
  for (std::size_t k = 0; k < count; k += lane_count) {
    float part[lane_count] = {};
    const std::size_t some = smaller(lane_count, count - k);
    __builtin_memcpy(part, scores + k, some * sizeof(float));
    const IntLanes there = lane_numbers() < static_cast<std::int32_t>(some);
    const Lanes weight = select(there, exp(multiply_add(load(part), scale, broadcast(-top))), Lanes{});
    sum += static_cast<double>(sum_of(weight));
    store(weight, part);
    __builtin_memcpy(scores + k, part, some * sizeof(float));
  }
  const auto inverse = static_cast<float>(1 / sum);
  for (std::size_t k = 0; k < count; ++k) scores[k] *= inverse;
}

#if defined(__AVX512BF16__)
using Units = Bf16Units;
#else
using Units = F32Units;
#endif

constexpr AttentionKernels kernels{.level = InstructionLevel::KRUL_LEVEL,
                                   .arithmetic = Units::type,
                                   .lanes = lane_count,
                                   .group_rows = group_rows,
                                   .pack = Units::pack,
                                   .tile_height = tile_height,
                                   .load_queries = load_queries<Units>,
                                   .unpack_keys = unpack_keys<Units>,
                                   .unpack_values = unpack_values<Units>,
                                   .score = score<Units>,
                                   .soften = soften<Units>,
                                   .weigh = weigh<Units>,
                                   .transpose = transpose,
                                   .lend_weights = lend_weights<Units>,
                                   .sum_bins = sum_bins<Units>,
                                   .join = join,
                                   .softmax = softmax};

}  // namespace

template <>
const AttentionKernels* attention_kernels<InstructionLevel::KRUL_LEVEL>() {
  return &kernels;
}

}  // namespace krul::detail
