// The loops of the joint transform by the compilers' vector extension; products of int8 by what each level has for
// them.
#include "../joint/joint_loops.hpp"

#include "../../levels/lanes.hpp"
#include "int8_tiles.hpp"

namespace krul::detail {
namespace {

using ShortLanes [[gnu::vector_size(lane_count * sizeof(std::int16_t))]] = std::int16_t;
using ByteLanes [[gnu::vector_size(lane_count)]] = std::int8_t;

IntLanes load_whole(const std::int32_t* from) {
  IntLanes lanes;
  __builtin_memcpy(&lanes, from, sizeof lanes);
  return lanes;
}

/// To nearest even, for magnitudes below 2^22: adding 1.5 * 2^23 leaves the whole number in the low bits.
IntLanes round_to_whole(Lanes values) {
  const Lanes shifted = values + 12582912.0F;
  IntLanes bits;
  __builtin_memcpy(&bits, &shifted, sizeof bits);
  return bits - 0x4b400000;
}

/// The last, partly filled lanes of a row; what lies beyond it is zero.
Lanes load_first(const float* from, std::size_t count) {
  Lanes values{};
  __builtin_memcpy(&values, from, count * sizeof(float));
  return values;
}

void round_row(const float* from, std::size_t depth, RoundedRow& to) {
  Lanes magnitudes{};
  const auto join = [&](Lanes these) { magnitudes = max(magnitudes, these < 0.0F ? -these : these); };
  std::size_t i = 0;
  for (; i + lane_count <= depth; i += lane_count) join(load(from + i));
  if (i < depth) join(load_first(from + i, depth - i));
  const float largest = max_of(magnitudes);
  if (largest < 1e-30F) {
    __builtin_memset(to.values, 0, depth);
    return;
  }
  const float per_step = 127 / largest;
  IntLanes sums{};
  for (i = 0; i < depth; i += lane_count) {
    const std::size_t count = depth - i < lane_count ? depth - i : lane_count;
    const IntLanes rounded =
        round_to_whole((count == lane_count ? load(from + i) : load_first(from + i, count)) * per_step);
    sums += rounded;
    const ByteLanes bytes = __builtin_convertvector(rounded, ByteLanes);
    __builtin_memcpy(to.values + i, &bytes, count);
  }
  std::int32_t sum = 0;
  for (std::size_t lane = 0; lane < lane_count; ++lane) sum += sums[lane];
  to.scale = largest / 127;
  to.excess = 128 * sum;
}

/// Sums of a few rows and columns stay in registers: as many as leave some for what is multiplied.
constexpr std::size_t product_height = lane_count == 16 ? 8 : lane_count == 8 ? 6 : 4;

template <Into How>
void small_product_into(const ProductShape& shape, Floats left, Floats right, MutableFloats to) {
  constexpr std::size_t vectors = 2, height = product_height;
  const auto joined = [](auto before, auto sum) {
    if constexpr (How == Into::replaced) return sum;
    return How == Into::added ? before + sum : before - sum;
  };
  for (std::size_t row = 0; row < shape.rows; row += height) {
    const std::size_t rows = shape.rows - row < height ? shape.rows - row : height;
    const float* values[height];
    for (std::size_t i = 0; i < height; ++i) values[i] = left.values + (row + (i < rows ? i : rows - 1)) * left.stride;
    std::size_t column = 0;
    const auto strip = [&]<std::size_t Vectors>() {
      // Loops over sums are unrolled, or the compiler keeps them in memory.
      Lanes sums[height][Vectors] = {};
      for (std::size_t k = 0; k < shape.depth; ++k) {
        Lanes line[Vectors];
#pragma GCC unroll 8
        for (std::size_t v = 0; v < Vectors; ++v)
          line[v] = load(right.values + k * right.stride + column + v * lane_count);
#pragma GCC unroll 8
        for (std::size_t i = 0; i < height; ++i) {
          const Lanes factor = broadcast(values[i][k]);
#pragma GCC unroll 8
          for (std::size_t v = 0; v < Vectors; ++v) sums[i][v] = fused(factor, line[v], sums[i][v]);
        }
      }
#pragma GCC unroll 8
      for (std::size_t i = 0; i < height; ++i) {
        if (i >= rows) break;
        float* const out = to.values + (row + i) * to.stride + column;
        for (std::size_t v = 0; v < Vectors; ++v)
          store(joined(load(out + v * lane_count), sums[i][v]), out + v * lane_count);
      }
      column += Vectors * lane_count;
    };
    while (column + vectors * lane_count <= shape.columns) strip.template operator()<vectors>();
    while (column + lane_count <= shape.columns) strip.template operator()<1>();
    if (column == shape.columns) continue;
    const std::size_t rest = shape.columns - column;
    for (std::size_t i = 0; i < rows; ++i) {
      Lanes sum{};
      for (std::size_t k = 0; k < shape.depth; ++k)
        sum = fused(broadcast(values[i][k]), load_first(right.values + k * right.stride + column, rest), sum);
      float* const out = to.values + (row + i) * to.stride + column;
      const Lanes result = joined(load_first(out, rest), sum);
      __builtin_memcpy(out, &result, rest * sizeof(float));
    }
  }
}

void small_product(Into how, const ProductShape& shape, Floats left, Floats right, MutableFloats to) {
  if (how == Into::replaced) return small_product_into<Into::replaced>(shape, left, right, to);
  if (how == Into::added) return small_product_into<Into::added>(shape, left, right, to);
  small_product_into<Into::subtracted>(shape, left, right, to);
}

// ---- between symbols and coefficients ----

/// What symbols stand for. Rounding to zero makes values smaller on the whole, and attention adds up what errors have
/// in common: a little outward evens it out.
Lanes outward(const std::int16_t* symbols) {
  constexpr float by = 0.05F;
  ShortLanes shorts;
  __builtin_memcpy(&shorts, symbols, sizeof shorts);
  const Lanes values = __builtin_convertvector(shorts, Lanes);
  const Lanes away = select(values > 0.0F, values + by, values - by);
  return select(values == 0.0F, values, away);
}

Lanes predicted(const BandPanel& panel, std::size_t token, std::size_t at) {
  if (panel.prediction == nullptr) return Lanes{};
  return load(panel.prediction_scales + at) * load(panel.prediction + panel.which[token] * panel.stride + at);
}

/// Tokens whose symbols are turned from columns into rows at once.
constexpr std::size_t turned_tokens = 64;

void dequantise(const BandPanel& panel, const std::int16_t* symbols, std::size_t tokens, MutableFloats to) {
  alignas(64) std::int16_t by_token[turned_tokens * panel_width] = {};
  for (std::size_t first = 0; first < tokens; first += turned_tokens) {
    const std::size_t count = tokens - first < turned_tokens ? tokens - first : turned_tokens;
    for (std::size_t i = 0; i < panel.coded; ++i)
      for (std::size_t token = 0; token < count; ++token)
        by_token[token * panel_width + panel.lanes[i]] = symbols[i * tokens + first + token];
    for (std::size_t token = 0; token < count; ++token)
      for (std::size_t at = 0; at < panel_width; at += lane_count) {
        const Lanes value = fused(broadcast(panel.steps[first + token]), outward(by_token + token * panel_width + at),
                                  predicted(panel, first + token, at));
        store(load(panel.scales + at) * value, to.values + (first + token) * to.stride + at);
      }
  }
}

Lanes size_of(Lanes values) {
  return select(values < 0.0F, -values, values);
}

/// How far above one half a coefficient has to be for the larger symbol: what the smaller error is worth is compared
/// with the bits that it takes. Of coefficients with a mean size of b steps that is 1 / (b ln 2) bits, as Laplace has
/// it.
/// @param bit    squared steps that it is worth
/// @param sizes  of so many coefficients, summed up
Lanes above_half(float bit, Lanes sizes, std::size_t count) {
  constexpr float per_ln2 = 1.4427F, most = 0.25F;
  if (bit == 0) return Lanes{};
  const Lanes above = broadcast(bit / 2 * per_ln2 * static_cast<float>(count)) / sizes;
  return select(above < most, above, broadcast(most));
}

void quantise(const BandPanel& panel, Floats coefficients, std::size_t tokens, std::int16_t* symbols,
              MutableFloats as_coded) {
  const Lanes largest = broadcast(32767);
  alignas(64) std::int16_t by_token[turned_tokens * panel_width];
  alignas(64) float steps_of[turned_tokens * panel_width];
  for (std::size_t first = 0; first < tokens; first += turned_tokens) {
    const std::size_t count = tokens - first < turned_tokens ? tokens - first : turned_tokens;
    for (std::size_t at = 0; at < panel_width; at += lane_count) {
      Lanes sizes{};
      for (std::size_t token = 0; token < count; ++token) {
        const Lanes value = load(coefficients.values + (first + token) * coefficients.stride + at);
        const Lanes steps =
            fused(load(panel.scales + at), value, -predicted(panel, first + token, at)) * panel.per_step[first + token];
        const Lanes limited = steps > largest ? largest : (steps > -largest ? steps : -largest);  // or NaN
        store(limited, steps_of + token * panel_width + at);
        sizes = sizes + size_of(limited);
      }
      const Lanes above = above_half(panel.bit, sizes, count);
      for (std::size_t token = 0; token < count; ++token) {
        const Lanes steps = load(steps_of + token * panel_width + at);
        const IntLanes size = round_to_whole(size_of(steps) - above);
        const IntLanes negative = steps < 0.0F;  // all bits set, or none
        const IntLanes whole = ((size ^ negative) - negative) & load_whole(panel.is_coded + at);
        const ShortLanes shorts = __builtin_convertvector(whole, ShortLanes);
        std::int16_t* const rounded = by_token + token * panel_width + at;
        __builtin_memcpy(rounded, &shorts, sizeof shorts);
        if (as_coded.values != nullptr)
          store(fused(broadcast(panel.steps[first + token]), outward(rounded), predicted(panel, first + token, at)),
                as_coded.values + (first + token) * as_coded.stride + at);
      }
    }
    for (std::size_t i = 0; i < panel.coded; ++i)
      for (std::size_t token = 0; token < count; ++token)
        symbols[i * tokens + first + token] = by_token[token * panel_width + panel.lanes[i]];
  }
}

// ---- rows ----

/// A pair of vectors turned: what each becomes.
void turn_vectors(Lanes& x, Lanes& y, Lanes cosine, Lanes sine) {
  const Lanes turned = x * cosine - y * sine;
  y = y * cosine + x * sine;
  x = turned;
}

void turn(const TurnedHeads& heads, bool back) {
  const float sign = back ? -1.0F : 1.0F;
  for (float* head = heads.values; head != heads.values + heads.count * heads.dim; head += heads.dim) {
    if (heads.interleaved) {
      for (std::size_t i = 0; i < heads.pairs; ++i) {
        float& x = head[2 * i];
        float& y = head[2 * i + 1];
        const float sine = sign * heads.sines[i], turned = x * heads.cosines[i] - y * sine;
        y = y * heads.cosines[i] + x * sine;
        x = turned;
      }
      continue;
    }
    float *const a = head, *const b = head + heads.pairs;
    std::size_t i = 0;
    for (; i + lane_count <= heads.pairs; i += lane_count) {
      Lanes x = load(a + i), y = load(b + i);
      turn_vectors(x, y, load(heads.cosines + i), load(heads.sines + i) * sign);
      store(x, a + i);
      store(y, b + i);
    }
    if (i == heads.pairs) continue;
    const std::size_t rest = heads.pairs - i;
    Lanes x = load_first(a + i, rest), y = load_first(b + i, rest);
    turn_vectors(x, y, load_first(heads.cosines + i, rest), load_first(heads.sines + i, rest) * sign);
    __builtin_memcpy(a + i, &x, rest * sizeof(float));
    __builtin_memcpy(b + i, &y, rest * sizeof(float));
  }
}

void subtract(float* to, const float* values, std::size_t n) {
  std::size_t i = 0;
  for (; i + lane_count <= n; i += lane_count) store(load(to + i) - load(values + i), to + i);
  for (; i < n; ++i) to[i] -= values[i];
}

constexpr JointLoops loops{.level = InstructionLevel::KRUL_LEVEL,
                           .round_row = round_row,
                           .row_words = Tile::words,
                           .multiply = multiply,
                           .small_product = small_product,
                           .dequantise = dequantise,
                           .quantise = quantise,
                           .turn = turn,
                           .subtract = subtract};

}  // namespace

template <>
const JointLoops* joint_loops<InstructionLevel::KRUL_LEVEL>() {
  return &loops;
}

}  // namespace krul::detail
