// Products by AVX-512, with what its level adds to it.
#include <immintrin.h>

#include "../micro_kernels.hpp"

namespace krul::detail {
namespace {

constexpr std::size_t vectors = strip_columns / 16;

/// The four bytes at `from` in every lane.
__m512i repeat(const void* from) {
  int bits;
  __builtin_memcpy(&bits, from, sizeof bits);
  return _mm512_set1_epi32(bits);
}

/// Brings weights near that come next, and moves on.
void fetch(const std::byte*& next, std::size_t step) {
  _mm_prefetch(next, _MM_HINT_T1);
  _mm_prefetch(next + step / 2, _MM_HINT_T1);
  next += step;
}

struct F32 {
  [[maybe_unused]] static constexpr std::size_t step_bytes = sizeof(float), value_bytes = sizeof(float);
  static __m512 add_product(__m512 sum, __m512i weights, __m512i x) {
    return _mm512_fmadd_ps(_mm512_castsi512_ps(weights), _mm512_castsi512_ps(x), sum);
  }
};

#if defined(__AVX512BF16__)
struct Bf16 {
  static constexpr std::size_t step_bytes = 2 * sizeof(std::uint16_t), value_bytes = sizeof(std::uint16_t);
  static __m512 add_product(__m512 sum, __m512i weights, __m512i x) {
    return _mm512_dpbf16_ps(sum, (__m512bh)weights, (__m512bh)x);
  }
};

#endif

/// The sums stay in registers over all steps.
template <class Type, std::size_t Rows>
void multiply_float(const StripProduct& product) {
  __m512 sums[Rows][vectors];
#pragma GCC unroll 16
  for (std::size_t row = 0; row < Rows; ++row)
    for (std::size_t v = 0; v < vectors; ++v) sums[row][v] = _mm512_setzero_ps();
  const std::byte* x = product.rows;
  const std::byte* weights = product.strip;
  const std::byte* next = product.next;
  for (std::size_t step = 0; step < product.steps; ++step) {
    const __m512i w0 = _mm512_load_si512(weights), w1 = _mm512_load_si512(weights + 64);
    fetch(next, product.next_step);
#pragma GCC unroll 16
    for (std::size_t row = 0; row < Rows; ++row) {
      const __m512i value = repeat(x + row * product.row_bytes);
      sums[row][0] = Type::add_product(sums[row][0], w0, value);
      sums[row][1] = Type::add_product(sums[row][1], w1, value);
    }
    x += Type::step_bytes;
    weights += 64 * vectors;
  }
#pragma GCC unroll 16
  for (std::size_t row = 0; row < Rows; ++row)
    for (std::size_t v = 0; v < vectors; ++v) _mm512_storeu_ps(product.y + row * product.stride + v * 16, sums[row][v]);
}

#if !defined(__AVX512BF16__)
/// bf16 weights become f32 in registers, at two instructions for all rows of the tile.
template <std::size_t Rows>
void multiply_widened(const StripProduct& product) {
  __m512 sums[Rows][vectors];
#pragma GCC unroll 16
  for (std::size_t row = 0; row < Rows; ++row)
    for (std::size_t v = 0; v < vectors; ++v) sums[row][v] = _mm512_setzero_ps();
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000));
  const std::byte* x = product.rows;
  const std::byte* weights = product.strip;
  const std::byte* next = product.next;
  for (std::size_t step = 0; step < product.steps; ++step) {
    const __m512i w0 = _mm512_load_si512(weights), w1 = _mm512_load_si512(weights + 64);
    fetch(next, product.next_step);
    const __m512i low0 = _mm512_slli_epi32(w0, 16), low1 = _mm512_slli_epi32(w1, 16);
#pragma GCC unroll 16
    for (std::size_t row = 0; row < Rows; ++row) {
      const __m512i value = repeat(x + row * product.row_bytes);
      sums[row][0] = F32::add_product(sums[row][0], low0, value);
      sums[row][1] = F32::add_product(sums[row][1], low1, value);
    }
    const __m512i high0 = _mm512_and_si512(w0, upper), high1 = _mm512_and_si512(w1, upper);
#pragma GCC unroll 16
    for (std::size_t row = 0; row < Rows; ++row) {
      const __m512i value = repeat(x + row * product.row_bytes + sizeof(float));
      sums[row][0] = F32::add_product(sums[row][0], high0, value);
      sums[row][1] = F32::add_product(sums[row][1], high1, value);
    }
    x += 2 * sizeof(float);
    weights += 64 * vectors;
  }
#pragma GCC unroll 16
  for (std::size_t row = 0; row < Rows; ++row)
    for (std::size_t v = 0; v < vectors; ++v) _mm512_storeu_ps(product.y + row * product.stride + v * 16, sums[row][v]);
}

/// Whole numbers are summed over one group, floats over the groups.
template <std::size_t Rows>
void multiply_int8(const StripProduct& product) {
  __m512 sums[Rows][vectors];
#pragma GCC unroll 16
  for (std::size_t row = 0; row < Rows; ++row)
    for (std::size_t v = 0; v < vectors; ++v) sums[row][v] = _mm512_setzero_ps();
  const std::byte* x = product.rows;
  const std::byte* weights = product.strip;
  const std::byte* next = product.next;
  for (std::size_t step = 0; step < product.steps; ++step) {
    __m512i whole[Rows][vectors];
#pragma GCC unroll 16
    for (std::size_t row = 0; row < Rows; ++row)
      whole[row][0] = whole[row][1] = repeat(x + row * product.row_bytes + offsetof(Int8Group, start));
#pragma GCC unroll 16
    for (std::size_t quad = 0; quad < group_values / 4; ++quad) {
      const __m512i w0 = _mm512_load_si512(weights), w1 = _mm512_load_si512(weights + 64);
      fetch(next, product.next_step);
#pragma GCC unroll 16
      for (std::size_t row = 0; row < Rows; ++row) {
        const __m512i value = repeat(x + row * product.row_bytes + 4 * quad);
        whole[row][0] = _mm512_dpbusd_epi32(whole[row][0], w0, value);
        whole[row][1] = _mm512_dpbusd_epi32(whole[row][1], w1, value);
      }
      weights += 64 * vectors;
    }
#pragma GCC unroll 16
    for (std::size_t row = 0; row < Rows; ++row) {
      const __m512 scale = _mm512_castsi512_ps(repeat(x + row * product.row_bytes + offsetof(Int8Group, scale)));
      for (std::size_t v = 0; v < vectors; ++v)
        sums[row][v] = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(whole[row][v]), sums[row][v]);
    }
    x += sizeof(Int8Group);
  }
#pragma GCC unroll 16
  for (std::size_t row = 0; row < Rows; ++row)
    for (std::size_t v = 0; v < vectors; ++v)
      _mm512_storeu_ps(product.y + row * product.stride + v * 16,
                       _mm512_mul_ps(sums[row][v], _mm512_load_ps(weights + v * 64)));
}

#endif

template <class Type>
void multiply_floats(const StripProduct& product) {
  using Function = void (*)(const StripProduct&);
  static constexpr Function by_rows[] = {multiply_float<Type, 1>,  multiply_float<Type, 2>,  multiply_float<Type, 3>,
                                         multiply_float<Type, 4>,  multiply_float<Type, 5>,  multiply_float<Type, 6>,
                                         multiply_float<Type, 7>,  multiply_float<Type, 8>,  multiply_float<Type, 9>,
                                         multiply_float<Type, 10>, multiply_float<Type, 11>, multiply_float<Type, 12>};
  by_rows[product.count - 1](product);
}

#if !defined(__AVX512BF16__)
void multiply_widened_rows(const StripProduct& product) {
  using Function = void (*)(const StripProduct&);
  static constexpr Function by_rows[] = {multiply_widened<1>,  multiply_widened<2>,  multiply_widened<3>,
                                         multiply_widened<4>,  multiply_widened<5>,  multiply_widened<6>,
                                         multiply_widened<7>,  multiply_widened<8>,  multiply_widened<9>,
                                         multiply_widened<10>, multiply_widened<11>, multiply_widened<12>};
  by_rows[product.count - 1](product);
}

void multiply_int8s(const StripProduct& product) {
  using Function = void (*)(const StripProduct&);
  static constexpr Function by_rows[] = {multiply_int8<1>, multiply_int8<2>, multiply_int8<3>,
                                         multiply_int8<4>, multiply_int8<5>, multiply_int8<6>};
  by_rows[product.count - 1](product);
}

/// Sums and differences of lanes that are Distance apart.
template <int Distance>
__m512 butterfly(__m512 values) {
  const __m512 signs = _mm512_mask_blend_ps(Distance == 1   ? 0xaaaa
                                            : Distance == 2 ? 0xcccc
                                            : Distance == 4 ? 0xf0f0
                                                            : 0xff00,
                                            _mm512_set1_ps(1), _mm512_set1_ps(-1));
  __m512 other;
  if constexpr (Distance == 1) other = _mm512_permute_ps(values, 0b10'11'00'01);
  if constexpr (Distance == 2) other = _mm512_permute_ps(values, 0b01'00'11'10);
  if constexpr (Distance == 4) other = _mm512_shuffle_f32x4(values, values, 0b10'11'00'01);
  if constexpr (Distance == 8) other = _mm512_shuffle_f32x4(values, values, 0b01'00'11'10);
  return _mm512_fmadd_ps(values, signs, other);
}

void quantise_group(const float* values, std::byte* to) {
  Int8Group group;
  __m512 v[4];
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm512_loadu_ps(values + 16 * i);
    v[i] = butterfly<8>(butterfly<4>(butterfly<2>(butterfly<1>(v[i]))));
  }
  const __m512 a = _mm512_add_ps(v[0], v[1]), b = _mm512_sub_ps(v[0], v[1]);
  const __m512 c = _mm512_add_ps(v[2], v[3]), d = _mm512_sub_ps(v[2], v[3]);
  v[0] = _mm512_add_ps(a, c), v[1] = _mm512_add_ps(b, d);
  v[2] = _mm512_sub_ps(a, c), v[3] = _mm512_sub_ps(b, d);
  const __m512 largest = _mm512_max_ps(_mm512_max_ps(_mm512_abs_ps(v[0]), _mm512_abs_ps(v[1])),
                                       _mm512_max_ps(_mm512_abs_ps(v[2]), _mm512_abs_ps(v[3])));
  const float most = _mm512_reduce_max_ps(largest);
  const __m512 inverse = _mm512_set1_ps(most > smallest_scaled ? 127.0F / most : 0.0F);
  __m512i sum = _mm512_setzero_si512();
  for (int i = 0; i < 4; ++i) {
    const __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(v[i], inverse));
    sum = _mm512_add_epi32(sum, whole);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(group.values + 16 * i), _mm512_cvtepi32_epi8(whole));
  }
  group.scale = most / 127.0F;
  group.start = -128 * _mm512_reduce_add_epi32(sum);
  __builtin_memcpy(to, &group, sizeof group);
}

struct Int8 {
  static constexpr std::size_t step_bytes = 4, value_bytes = 1;
  static __m512 add_product(__m512 sum, __m512i weights, __m512i x) {
    return _mm512_castsi512_ps(_mm512_dpbusd_epi32(_mm512_castps_si512(sum), weights, x));
  }
};

#endif

template <class Type>
double multiply_registers(std::size_t rounds) {
  constexpr std::size_t chains = 12;  // more than the latency of any of these instructions
  __m512 sums[chains];
#pragma GCC unroll 16
  for (auto& sum : sums) sum = _mm512_setzero_ps();
  const __m512i factor = _mm512_setzero_si512();
  for (std::size_t round = 0; round < rounds; ++round)
#pragma GCC unroll 16
    for (auto& sum : sums) {
      sum = Type::add_product(sum, factor, factor);
      __asm__ volatile("" : "+v"(sum));  // so that none is left out
    }
  return static_cast<double>(rounds * chains * 16 * (Type::step_bytes / Type::value_bytes) * 2);
}

template <class Type>
constexpr MicroKernels float_kernels{.level = InstructionLevel::KRUL_LEVEL,
                                     .rows = 12,
                                     .step_bytes = Type::step_bytes,
                                     .multiply = multiply_floats<Type>,
                                     .multiply_registers = multiply_registers<Type>};
#if !defined(__AVX512BF16__)
constexpr MicroKernels widening{.level = InstructionLevel::KRUL_LEVEL,
                                .rows = 12,
                                .step_bytes = 2 * sizeof(float),
                                .widens = true,
                                .multiply = multiply_widened_rows,
                                .multiply_registers = multiply_registers<F32>};
constexpr MicroKernels int8{.level = InstructionLevel::KRUL_LEVEL,
                            .rows = 6,
                            .step_bytes = sizeof(Int8Group),
                            .multiply = multiply_int8s,
                            .quantise = quantise_group,
                            .multiply_registers = multiply_registers<Int8>};
#endif

}  // namespace

#if defined(__AVX512BF16__)
template <>
const MicroKernels* micro_kernels<Precision::bf16, InstructionLevel::KRUL_LEVEL>() {
  return &float_kernels<Bf16>;
}
#else
template <>
const MicroKernels* micro_kernels<Precision::f32, InstructionLevel::KRUL_LEVEL>() {
  return &float_kernels<F32>;
}
template <>
const MicroKernels* micro_kernels<Precision::bf16, InstructionLevel::KRUL_LEVEL>() {
  return &widening;
}
template <>
const MicroKernels* micro_kernels<Precision::int8, InstructionLevel::KRUL_LEVEL>() {
  return &int8;
}
#endif

}  // namespace krul::detail
