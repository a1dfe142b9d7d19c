#pragma once

// The loops of LayerOps by the compilers' vector extension. Each file that includes this is compiled for other
// instructions, so everything has internal linkage and no inline functions of others are called.

#include "lanes.hpp"
#include "layer_kernels.hpp"

namespace krul::detail {
namespace {

using BitLanes [[gnu::vector_size(lane_count * sizeof(float))]] = std::uint32_t;

/// Values [at, at + count) of a row: a whole vector, or what is left of the row.
struct Whole {
  std::size_t at;
  static constexpr std::size_t count = lane_count;
};
struct Rest {
  std::size_t at, count;
};

/// Calls step(part) for all parts of n values.
template <class Step>
void by_lanes(std::size_t n, const Step& step) {
  std::size_t at = 0;
  for (; at + lane_count <= n; at += lane_count) step(Whole{at});
  if (at < n) step(Rest{at, n - at});
}

/// A part of a row; lanes beyond its end are 0.
template <class Part>
Lanes load_of(const Part& part, const float* row) {
  Lanes lanes{};
  __builtin_memcpy(&lanes, row + part.at, part.count * sizeof(float));
  return lanes;
}
template <class Part>
void store_of(const Part& part, Lanes lanes, float* row) {
  __builtin_memcpy(row + part.at, &lanes, part.count * sizeof(float));
}

inline void rms_norm(const float* row, const float* weight, std::size_t n, float epsilon, float* out) {
  Lanes squares{};
  by_lanes(n, [&](const auto& part) {
    const Lanes values = load_of(part, row);
    squares += values * values;
  });
  const float mean = sum_of(squares) / static_cast<float>(n);
  const float scale = 1.0F / __builtin_sqrtf(mean + epsilon);
  by_lanes(n, [&](const auto& part) { store_of(part, load_of(part, row) * scale * load_of(part, weight), out); });
}

inline void swiglu(const float* gate, const float* up, std::size_t n, float* out) {
  by_lanes(n, [&](const auto& part) {
    const Lanes g = load_of(part, gate);
    store_of(part, g / (1.0F + exp(-g)) * load_of(part, up), out);
  });
}

inline void add(float* to, const float* from, std::size_t n) {
  by_lanes(n, [&](const auto& part) { store_of(part, load_of(part, to) + load_of(part, from), to); });
}

// ---- rounding ----

inline HalfLanes as_bf16(Lanes values) {
  const auto bits = (BitLanes)values;
  const BitLanes nearest = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
  const BitLanes quiet = (bits >> 16) | 0x40U;  // NaN stays NaN
  return __builtin_convertvector((bits & 0x7fffffffU) > 0x7f800000U ? quiet : nearest, HalfLanes);
}

inline HalfLanes as_f16(Lanes values) {
#if defined(__AVX512F__)
  // The form with a mask, as GCC 12 warns about its own plain one.
  return (HalfLanes)_mm512_maskz_cvtps_ph(0xffff, (__m512)values, _MM_FROUND_TO_NEAREST_INT);
#elif defined(__F16C__)
  return (HalfLanes)_mm256_cvtps_ph((__m256)values, _MM_FROUND_TO_NEAREST_INT);
#else
  const auto bits = (BitLanes)values;
  const BitLanes magnitude = bits & 0x7fffffffU, infinite = BitLanes{} + 0x7c00U;
  const BitLanes nearest = (magnitude - 0x38000000U + 0xfffU + ((magnitude >> 13) & 1U)) >> 13;
  // Where the result is subnormal, the float adder does the rounding.
  const BitLanes subnormal = (BitLanes)((Lanes)magnitude + 0.5F) - 0x3f000000U;
  const BitLanes quiet = ((magnitude >> 13) & 0x3ffU) | 0x7e00U;
  BitLanes rounded = magnitude < 0x38800000U ? subnormal : nearest;
  rounded = magnitude >= 0x477ff000U ? infinite : rounded;
  rounded = magnitude > 0x7f800000U ? quiet : rounded;
  return __builtin_convertvector(rounded | ((bits >> 16) & 0x8000U), HalfLanes);
#endif
}

inline void round(ElementType type, const float* from, std::size_t n, std::byte* to) {
  const auto by_halves = [&](const auto& as_halves) {
    by_lanes(n, [&](const auto& part) {
      const HalfLanes halves = as_halves(load_of(part, from));
      __builtin_memcpy(to + part.at * sizeof(std::uint16_t), &halves, part.count * sizeof(std::uint16_t));
    });
  };
  if (type == ElementType::bf16) return by_halves([](Lanes values) { return as_bf16(values); });
  if (type == ElementType::f16) return by_halves([](Lanes values) { return as_f16(values); });
  if (n > 0) __builtin_memcpy(to, from, n * sizeof(float));
}

// ---- rotary embedding ----

/// First and second values of the pairs in a vector each, or two neighbouring vectors.
struct TwoLanes {
  Lanes first, second;
};

inline TwoLanes take_apart(const TwoLanes& from) {
  return [&]<std::size_t... I>(std::index_sequence<I...>) {
    return TwoLanes{__builtin_shufflevector(from.first, from.second, (2 * I)...),
                    __builtin_shufflevector(from.first, from.second, (2 * I + 1)...)};
  }
  (std::make_index_sequence<lane_count>());
}

inline TwoLanes interleave(const TwoLanes& from) {
  return [&]<std::size_t... I>(std::index_sequence<I...>) {
    return TwoLanes{__builtin_shufflevector(from.first, from.second, (I / 2 + I % 2 * lane_count)...),
                    __builtin_shufflevector(from.first, from.second, (lane_count / 2 + I / 2 + I % 2 * lane_count)...)};
  }
  (std::make_index_sequence<lane_count>());
}

/// Turns pairs whose first and second values are where load finds them and store puts them.
template <class Load, class Store>
void turn(const HeadVectors& heads, const float* angles, const Load& load_pairs, const Store& store_pairs) {
  for (float* head = heads.first; head != heads.first + heads.count * heads.dim; head += heads.dim)
    by_lanes(heads.pairs, [&](const auto& part) {
      const Lanes cosine = load_of(part, angles), sine = load_of(part, angles + heads.pairs);
      const TwoLanes p = load_pairs(part, head);
      store_pairs(part, TwoLanes{p.first * cosine - p.second * sine, p.second * cosine + p.first * sine}, head);
    });
}

inline void rotate(RotaryPairs pairs, const HeadVectors& heads, const float* angles) {
  if (pairs == RotaryPairs::halves) {
    turn(
        heads, angles,
        [&](const auto& part, const float* head) {
          return TwoLanes{load_of(part, head), load_of(part, head + heads.pairs)};
        },
        [&](const auto& part, const TwoLanes& turned, float* head) {
          store_of(part, turned.first, head);
          store_of(part, turned.second, head + heads.pairs);
        });
  } else {
    turn(
        heads, angles,
        [](const auto& part, const float* head) {
          TwoLanes both{};
          __builtin_memcpy(&both, head + 2 * part.at, 2 * part.count * sizeof(float));
          return take_apart(both);
        },
        [](const auto& part, const TwoLanes& turned, float* head) {
          const TwoLanes both = interleave(turned);
          __builtin_memcpy(head + 2 * part.at, &both, 2 * part.count * sizeof(float));
        });
  }
}

constexpr LayerKernels generic_layer(const char* instructions) {
  return {.instructions = instructions,
          .rms_norm = rms_norm,
          .swiglu = swiglu,
          .add = add,
          .round = round,
          .rotate = rotate};
}

}  // namespace
}  // namespace krul::detail
