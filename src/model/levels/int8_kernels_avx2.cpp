// int8 products by AVX2: of 16 bits each, or by dot products of bytes where the processor has them.
#include <immintrin.h>

#include "four_bit_kernels_avx2.hpp"
#include "micro_kernels_generic.hpp"

namespace krul::detail {
namespace {

/// Vectors of columns that one pass over the rows' values takes; with six rows their sums fill three quarters of the
/// registers.
constexpr std::size_t width = 2;

/// The four bytes at `from` in every lane.
__m256i repeat(const std::byte* from) {
  return _mm256_set1_epi32(read<int>(from));
}

// How rows lie in memory, and how a vector of weights, four inputs of each of eight columns, is multiplied with them.

#if defined(__AVXVNNI__)
struct Bytes {
  using Group = Int8Group;
  static constexpr std::size_t quad_bytes = 4;
  template <std::size_t Rows>
  static void add_products(__m256i (&sums)[Rows][width], const std::byte* weights, const std::byte* x,
                           std::size_t stride) {
    const __m256i w0 = read<__m256i>(weights), w1 = read<__m256i>(weights + vector_bytes);
#pragma GCC unroll 8
    for (std::size_t row = 0; row < Rows; ++row) {
      const __m256i values = repeat(x + row * stride);
      sums[row][0] = _mm256_dpbusd_avx_epi32(sums[row][0], w0, values);
      sums[row][1] = _mm256_dpbusd_avx_epi32(sums[row][1], w1, values);
    }
  }
};
using Values = Bytes;
constexpr const MicroKernels* four_bits = nullptr;
#else
/// Weights become words in registers, two instructions for all rows. Rows then may have words as well: they are rounded
/// 256 times finer at no cost.
struct Words {
  using Group = Int16Group;
  static constexpr std::size_t quad_bytes = 8;
  template <std::size_t Rows>
  static void add_products(__m256i (&sums)[Rows][width], const std::byte* weights, const std::byte* x,
                           std::size_t stride) {
    const __m256i w0 = read<__m256i>(weights), w1 = read<__m256i>(weights + vector_bytes);
    alignas(vector_bytes) static constexpr std::uint16_t low[] = {255, 255, 255, 255, 255, 255, 255, 255,
                                                                  255, 255, 255, 255, 255, 255, 255, 255};
    const auto* const mask = reinterpret_cast<const __m256i*>(low);
    __m256i even[width];
    asm("vpand %1, %2, %0" : "=x"(even[0]) : "m"(*mask), "x"(w0));
    asm("vpand %1, %2, %0" : "=x"(even[1]) : "m"(*mask), "x"(w1));
    add_pairs<Rows>(sums, even, x, stride);
    const __m256i odd[width] = {_mm256_srli_epi16(w0, 8), _mm256_srli_epi16(w1, 8)};
    add_pairs<Rows>(sums, odd, x + 4, stride);
  }

 private:
  /// As instructions: GCC 12 loads the values of all rows before it uses the first, for which there are no registers.
  template <std::size_t Rows>
  static void add_pairs(__m256i (&sums)[Rows][width], const __m256i (&weights)[width], const std::byte* x,
                        std::size_t stride) {
#pragma GCC unroll 8
    for (std::size_t row = 0; row < Rows; ++row) {
      __m256i values, products;
      asm("vpbroadcastd %4, %2\n\t"
          "vpmaddwd %5, %2, %3\n\t"
          "vpmaddwd %6, %2, %2\n\t"
          "vpaddd %3, %0, %0\n\t"
          "vpaddd %2, %1, %1"
          : "+x"(sums[row][0]), "+x"(sums[row][1]), "=&x"(values), "=&x"(products)
          : "m"(*reinterpret_cast<const std::int32_t*>(x + row * stride)), "x"(weights[0]), "x"(weights[1]));
    }
  }
};
using Values = Words;
constexpr const MicroKernels* four_bits = &FourBits::kernels;
static_assert(sizeof(FourBitRow) <= sizeof(Words::Group), "rows have room for either form");
#endif

/// Whole numbers are summed over one group in registers, floats over the groups in the first-level cache.
template <std::size_t Rows>
void multiply_rows(const StripProduct& product) {
  using Group = Values::Group;
  constexpr std::size_t quad_step = vector_bytes * vectors;  // bytes of a strip for four inputs
  for (std::size_t first = 0; first < vectors; first += width) {
    __m256 sums[Rows][width] = {};
    const std::byte* x = product.rows;
    const std::byte* weights = product.strip + first * vector_bytes;
    const std::byte* next = product.next + first * vector_bytes;
    for (std::size_t step = 0; step < product.steps; ++step, x += sizeof(Group)) {
      __m256i whole[Rows][width];
#pragma GCC unroll 8
      for (std::size_t row = 0; row < Rows; ++row)
        whole[row][0] = whole[row][1] = repeat(x + row * product.row_bytes + offsetof(Group, start));
      for (std::size_t quad = 0; quad < group_values / 4; ++quad) {
        _mm_prefetch(next, _MM_HINT_T0);
        next += product.next_step;
        Values::template add_products<Rows>(whole, weights, x + quad * Values::quad_bytes, product.row_bytes);
        weights += quad_step;
      }
#pragma GCC unroll 8
      for (std::size_t row = 0; row < Rows; ++row) {
        const __m256 scale = _mm256_castsi256_ps(repeat(x + row * product.row_bytes + offsetof(Group, scale)));
        for (std::size_t v = 0; v < width; ++v)
          sums[row][v] = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(whole[row][v]), sums[row][v]);
      }
    }
    for (std::size_t row = 0; row < Rows; ++row)
      for (std::size_t v = 0; v < width; ++v)
        _mm256_storeu_ps(product.y + row * product.stride + (first + v) * lanes,
                         _mm256_mul_ps(sums[row][v], read<__m256>(weights + v * vector_bytes)));
  }
}

constexpr std::size_t most_rows = 6;
static_assert(FourBits::most_rows == most_rows);

void multiply(const StripProduct& product) {
  using Function = void (*)(const StripProduct&);
  static constexpr Function by_rows[most_rows] = {multiply_rows<1>, multiply_rows<2>, multiply_rows<3>,
                                                  multiply_rows<4>, multiply_rows<5>, multiply_rows<6>};
  by_rows[product.count - 1](product);
}

/// One row of values times two vectors of weights for each sum.
double multiply_registers(std::size_t rounds) {
  __m256i sums[most_rows][width] = {};
  const Values::Group values{};
  alignas(vector_bytes) const std::byte weights[2 * vector_bytes] = {};
  for (std::size_t round = 0; round < rounds; ++round) {
    Values::template add_products<most_rows>(sums, weights, reinterpret_cast<const std::byte*>(values.values), 0);
#pragma GCC unroll 8
    for (auto& row : sums)
      for (auto& sum : row) __asm__ volatile("" : "+x"(sum));  // so that none is left out
  }
  return static_cast<double>(rounds * most_rows * width * lanes * 4 * 2);
}

constexpr MicroKernels int8{.level = InstructionLevel::KRUL_LEVEL,
                            .rows = most_rows,
                            .step_bytes = sizeof(Values::Group),
                            .multiply = multiply,
                            .quantise = quantise<Values::Group>,
                            .multiply_registers = multiply_registers,
                            .four_bits = four_bits};

}  // namespace

template <>
const MicroKernels* micro_kernels<Precision::int8, InstructionLevel::KRUL_LEVEL>() {
  return &int8;
}

}  // namespace krul::detail
