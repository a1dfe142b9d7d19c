// The loops of LayerOps by the compilers' vector extension.
#include "../layer_kernels.hpp"
#include "../../levels/lanes.hpp"

namespace krul::detail {
namespace {

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

inline float sum_of_squares(const float* row, std::size_t n, float shrink) {
  Lanes squares{};
  by_lanes(n, [&](const auto& part) {
    const Lanes values = load_of(part, row) * shrink;
    squares = multiply_add(values, values, squares);
  });
  return sum_of(squares);
}

/// Where squares leave the range of floats, they are those of a row made smaller: divided by an infinite root, a finite
/// row would become zeros, which look like any other row.
inline void rms_norm(const float* row, const float* weight, std::size_t n, float epsilon, float* out) {
  float shrink = 1.0F, squares = sum_of_squares(row, n, shrink);
  if (__builtin_isinf(squares)) {
    shrink = 0x1p-96F;
    squares = sum_of_squares(row, n, shrink);
    epsilon = epsilon * shrink * shrink;
  }
  const float scale = 1.0F / __builtin_sqrtf(squares / static_cast<float>(n) + epsilon);
  by_lanes(n,
           [&](const auto& part) { store_of(part, load_of(part, row) * shrink * scale * load_of(part, weight), out); });
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
  const BitLanes nearest = __builtin_convertvector(nearest_bf16(values), BitLanes);
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

inline void rotate(RotaryPairs pairs, const HeadVectors& heads, const float* angles) {
  const float* const cosines = angles;
  const float* const sines = angles + heads.pairs;
  for (float* head = heads.first; head != heads.first + heads.count * heads.dim; head += heads.dim) {
    if (pairs == RotaryPairs::halves) {
      by_lanes(heads.pairs, [&](const auto& part) {
        const Lanes x = load_of(part, head), y = load_of(part, head + heads.pairs);
        const Lanes cosine = load_of(part, cosines), sine = load_of(part, sines);
        store_of(part, multiply_add(x, cosine, -(y * sine)), head);
        store_of(part, multiply_add(y, cosine, x * sine), head + heads.pairs);
      });
    } else {
      // Left to the compiler: shuffles that take pairs apart are six times slower where GCC 12 has AVX2 alone.
      for (std::size_t i = 0; i < heads.pairs; ++i) {
        const float x = head[2 * i], y = head[2 * i + 1];
        head[2 * i] = multiply_add(x, cosines[i], -(y * sines[i]));
        head[2 * i + 1] = multiply_add(y, cosines[i], x * sines[i]);
      }
    }
  }
}

constexpr LayerKernels kernels{.level = InstructionLevel::KRUL_LEVEL,
                               .rms_norm = rms_norm,
                               .swiglu = swiglu,
                               .add = add,
                               .round = round,
                               .rotate = rotate};

}  // namespace

template <>
const LayerKernels* layer_kernels<InstructionLevel::KRUL_LEVEL>() {
  return &kernels;
}

}  // namespace krul::detail
