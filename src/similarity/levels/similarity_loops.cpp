// The loops of the estimators by the compilers' vector extension.
#include "../similarity_loops.hpp"

#include "../../levels/lanes.hpp"
#include "krul/backend/attention_observer.hpp"
#include "krul/similarity/attention_statistics.hpp"

namespace krul::detail {
namespace {

/// Rows are filled up with zeros to whole units: two vectors of bf16 at most, whole cache lines at least.
constexpr std::size_t row_unit = LentWeights::cell_unit;
constexpr std::size_t bin_keys = AttentionStatistics::bin_keys;
static_assert(bin_keys % bin_lanes == 0 && bin_lanes % lane_count == 0);

// Layers a side of a register tile: their sums and operands fill the registers.
static constexpr std::size_t tile = lane_count == 16 ? 5 : 3;

#if defined(__AVX512BF16__)
using Values = __m512bh;
constexpr std::size_t value_count = 32;
Values load_values(const std::uint16_t* from) {
  __m512i bits = _mm512_load_si512(from);
  return (__m512bh)bits;
}
Lanes dot(Lanes sum, Values a, Values b) {
  return (Lanes)_mm512_dpbf16_ps((__m512)sum, a, b);
}
#else
using Values = Lanes;
constexpr std::size_t value_count = lane_count;
Values load_values(const std::uint16_t* from) {
  return load_as<ElementType::bf16>(reinterpret_cast<const std::byte*>(from));
}
Lanes dot(Lanes sum, Values a, Values b) {
  return multiply_add(a, b, sum);
}
#endif

// Cache lines of the next cell that are fetched ahead for each that is multiplied: while the sums stream past, the
// processor does not fetch it by itself.
constexpr std::size_t ahead_lines = 2;

/// Adds the dot products of some rows to their sums; those above the diagonal and on it only if Diagonal.
/// @param ahead  [ahead_lines * count], will be needed soon if it is there at all
template <std::size_t Rows, std::size_t Columns, bool Diagonal>
void multiply(const GramCell& cell, std::size_t first_row, std::size_t first_column, const std::uint16_t* ahead) {
  const CellRow* const rows = cell.rows + first_row;
  const CellRow* const columns = cell.rows + first_column;
  Lanes sum[Rows][Columns] = {};
  for (std::size_t k = 0; k < cell.count; k += value_count) {
    for (std::size_t line = 0; line < ahead_lines; ++line)
      __builtin_prefetch(ahead + ahead_lines * k + line * 32, 0, 2);
    Values right[Columns];
    for (std::size_t j = 0; j < Columns; ++j) right[j] = load_values(columns[j].values + k);
    for (std::size_t i = 0; i < Rows; ++i) {
      const Values left = Diagonal ? right[i] : load_values(rows[i].values + k);
      for (std::size_t j = Diagonal ? i : 0; j < Columns; ++j) sum[i][j] = dot(sum[i][j], left, right[j]);
    }
  }
  for (std::size_t i = 0; i < Rows; ++i)
    for (std::size_t j = Diagonal ? i : 0; j < Columns; ++j) {
      float* const to = cell.sums + (rows[i].layer * cell.layers + columns[j].layer) * lane_count;
      store(multiply_add(sum[i][j], cell.scales[(first_row + i) * cell.layers + first_column + j], load(to)), to);
    }
}

/// Calls call.operator()<n>() with n = min(count, tile).
template <class Call>
void with_count(std::size_t count, const Call& call) {
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    (((count < tile ? count : tile) == I + 1 ? call.template operator()<I + 1>() : void()), ...);
  }
  (std::make_index_sequence<tile>());
}

void multiply_cell(const GramCell& cell) {
  const std::uint16_t* ahead = cell.ahead;
  for (std::size_t i = 0; i < cell.n; i += tile)
    for (std::size_t j = i; j < cell.n; j += tile, ahead += ahead_lines * LentWeights::cell_keys)
      with_count(cell.n - j, [&]<std::size_t Columns>() {
        if (i == j)
          multiply<Columns, Columns, true>(cell, i, j, ahead);
        else
          multiply<tile, Columns, false>(cell, i, j, ahead);
      });
}

float sum_of_lanes(const float* lanes) {
  return sum_of(load(lanes));
}

void pack_unit(const float* weights, std::uint16_t* at) {
#if defined(__AVX512BF16__)
  const __m512bh packed = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(weights + 16), _mm512_loadu_ps(weights));
  _mm512_stream_si512(reinterpret_cast<__m512i*>(at), (__m512i)packed);
#else
  for (std::size_t k = 0; k < row_unit; k += lane_count) {
    const HalfLanes halves = nearest_bf16(load(weights + k));
    __builtin_memcpy(at + k, &halves, sizeof halves);
  }
#endif
}

void pack_weights(const float* from, std::size_t n, std::size_t count, std::uint16_t* to) {
  std::size_t k = 0;
  for (; k + row_unit <= n; k += row_unit) pack_unit(from + k, to + k);
  if (k < count) {
    float part[row_unit] = {};
    __builtin_memcpy(part, from + k, (n - k) * sizeof(float));
    pack_unit(part, to + k);
  }
}

void finish_packing() {
#if defined(__AVX512BF16__)
  _mm_sfence();
#endif
}

void add_to_bins(const float* weights, std::size_t n, float* sums) {
  std::size_t k = 0;
  for (; k + bin_keys <= n; k += bin_keys, sums += bin_lanes)
    for (std::size_t lane = 0; lane < bin_lanes; lane += lane_count) {
      Lanes sum = load(weights + k + lane);
      for (std::size_t v = bin_lanes + lane; v < bin_keys; v += bin_lanes) sum += load(weights + k + v);
      store(load(sums + lane) + sum, sums + lane);
    }
  for (std::size_t at = 0; k < n; k += lane_count, at = (at + lane_count) % bin_lanes) {
    Lanes part{};
    __builtin_memcpy(&part, weights + k, (n - k < lane_count ? n - k : lane_count) * sizeof(float));
    store(load(sums + at) + part, sums + at);
  }
}

void add_signed(const float* weights, const float* signs, float sign, std::size_t n, float* to) {
  std::size_t k = 0;
  for (; k + lane_count <= n; k += lane_count)
    store(multiply_add(load(weights + k), load(signs + k) * sign, load(to + k)), to + k);
  for (; k < n; ++k) to[k] = multiply_add(weights[k], signs[k] * sign, to[k]);
}

double squared_distance(const float* a, const float* b, std::size_t n) {
  constexpr std::size_t run = 1024;  // summed in f32
  double sum = 0;
  for (std::size_t begin = 0; begin < n; begin += run) {
    const std::size_t end = n - begin < run ? n : begin + run;
    Lanes part{};
    std::size_t k = begin;
    for (; k + lane_count <= end; k += lane_count) {
      const Lanes difference = load(a + k) - load(b + k);
      part = multiply_add(difference, difference, part);
    }
    sum += static_cast<double>(sum_of(part));
    for (; k < end; ++k) sum += static_cast<double>((a[k] - b[k]) * (a[k] - b[k]));
  }
  return sum;
}

constexpr SimilarityLoops loops{.level = InstructionLevel::KRUL_LEVEL,
                                .lanes = lane_count,
                                .multiply_cell = multiply_cell,
                                .sum_of_lanes = sum_of_lanes,
                                .pack_weights = pack_weights,
                                .finish_packing = finish_packing,
                                .add_to_bins = add_to_bins,
                                .add_signed = add_signed,
                                .squared_distance = squared_distance};

}  // namespace

template <>
const SimilarityLoops* similarity_loops<InstructionLevel::KRUL_LEVEL>() {
  return &loops;
}

}  // namespace krul::detail
