#pragma once

// Products with weights of four bits by AVX2: a product of bytes is at most 15 * 127, and eight pairs of those fit a
// sum of 16 bits. For 32 inputs a vector of columns takes nine products and seven sums; words take sixteen of each.

#include <immintrin.h>

#include "micro_kernels_generic.hpp"

namespace krul::detail {
namespace {

struct FourBits {
  static constexpr std::size_t most_rows = 6;

  /// sums = products of four inputs of two vectors of columns, or that added to sums. As instructions: for GCC's order
  /// there are too few registers.
  template <bool First, std::size_t Rows>
  static void add_products(__m256i (&sums)[Rows][2], const std::uint8_t (&codes)[8][4], const std::int8_t* x,
                           std::size_t stride) {
    alignas(32) static constexpr std::uint64_t lower_halves[4] = {0x0f0f0f0f0f0f0f0f, 0x0f0f0f0f0f0f0f0f,
                                                                  0x0f0f0f0f0f0f0f0f, 0x0f0f0f0f0f0f0f0f};
    __m256i low, high;
    asm("vmovdqu %2, %1\n\t"
        "vpand %3, %1, %0\n\t"
        "vpsrlw $4, %1, %1\n\t"
        "vpand %3, %1, %1"
        : "=&x"(low), "=&x"(high)
        : "m"(codes), "m"(lower_halves));
#pragma GCC unroll 8
    for (std::size_t row = 0; row < Rows; ++row) {
      const auto& values = *reinterpret_cast<const std::int32_t*>(x + row * stride);
      if constexpr (First) {
        asm("vpbroadcastd %2, %1\n\t"
            "vpmaddubsw %1, %3, %0\n\t"
            "vpmaddubsw %1, %4, %1"
            : "=&x"(sums[row][0]), "=&x"(sums[row][1])
            : "m"(values), "x"(low), "x"(high));
      } else {
        __m256i repeated, products;
        asm("vpbroadcastd %4, %2\n\t"
            "vpmaddubsw %2, %5, %3\n\t"
            "vpmaddubsw %2, %6, %2\n\t"
            "vpaddw %3, %0, %0\n\t"
            "vpaddw %2, %1, %1"
            : "+x"(sums[row][0]), "+x"(sums[row][1]), "=&x"(repeated), "=&x"(products)
            : "m"(values), "x"(low), "x"(high));
      }
    }
  }

  /// The sums of one block as floats, scaled and added to totals. One step for all rows after the other, as each waits
  /// for the one before it.
  template <std::size_t Rows>
  static void add_scaled(__m256i (&sums)[Rows][2], const FourBitWeights& weights, const FourBitRow::Block* x,
                         std::size_t stride, __m256 (&totals)[Rows][2]) {
    const auto block = [&](std::size_t row) -> const FourBitRow::Block& {
      return *reinterpret_cast<const FourBitRow::Block*>(reinterpret_cast<const std::byte*>(x) + row * stride);
    };
    const __m256i ones = _mm256_set1_epi16(1);
    const __m256 scales[] = {_mm256_loadu_ps(weights.scales), _mm256_loadu_ps(weights.scales + 8)};
    const __m256 minima[] = {_mm256_loadu_ps(weights.minima), _mm256_loadu_ps(weights.minima + 8)};
    __m256 scaled[Rows][2];
#pragma GCC unroll 8
    for (std::size_t row = 0; row < Rows; ++row)
      for (std::size_t v = 0; v < 2; ++v) sums[row][v] = _mm256_madd_epi16(sums[row][v], ones);
#pragma GCC unroll 8
    for (std::size_t row = 0; row < Rows; ++row)
      for (std::size_t v = 0; v < 2; ++v) scaled[row][v] = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[row][v]), scales[v]);
#pragma GCC unroll 8
    for (std::size_t row = 0; row < Rows; ++row) {
      const __m256 scale = _mm256_broadcast_ss(&block(row).scale);
      for (std::size_t v = 0; v < 2; ++v) scaled[row][v] = _mm256_fmadd_ps(scaled[row][v], scale, totals[row][v]);
    }
#pragma GCC unroll 8
    for (std::size_t row = 0; row < Rows; ++row) {
      const __m256 sum = _mm256_broadcast_ss(&block(row).sum);
      for (std::size_t v = 0; v < 2; ++v) totals[row][v] = _mm256_fmadd_ps(minima[v], sum, scaled[row][v]);
    }
  }

  /// totals += the products of one block.
  template <std::size_t Rows>
  static void add_block(const FourBitWeights& weights, const FourBitRow::Block* x, std::size_t stride,
                        __m256 (&totals)[Rows][2]) {
    __m256i sums[Rows][2];
    add_products<true, Rows>(sums, weights.codes[0], x->values, stride);
#pragma GCC unroll 8
    for (std::size_t quad = 1; quad < four_bit_values / 4; ++quad)
      add_products<false, Rows>(sums, weights.codes[quad], x->values + quad * 4, stride);
    add_scaled<Rows>(sums, weights, x, stride, totals);
  }

  template <std::size_t Rows>
  static void multiply_rows(const StripProduct& product) {
    constexpr std::size_t line = 64, lines = sizeof(FourBitWeights) / line;
    constexpr std::size_t passes = strip_columns / FourBitWeights::columns;
    const std::size_t blocks = product.steps * (group_values / four_bit_values);
    const auto* weights = reinterpret_cast<const FourBitWeights*>(product.strip);
    const std::byte* next = product.next;
    for (std::size_t pass = 0; pass < passes; ++pass) {
      __m256 totals[Rows][2] = {};
      const auto* x = reinterpret_cast<const FourBitRow::Block*>(product.rows);
      for (std::size_t block = 0; block < blocks; ++block, ++weights, ++x) {
        for (std::size_t i = 0; i < lines; ++i, next += product.next_step) _mm_prefetch(next, _MM_HINT_T0);
        add_block<Rows>(*weights, x, product.row_bytes, totals);
      }
      for (std::size_t row = 0; row < Rows; ++row)
        for (std::size_t v = 0; v < 2; ++v)
          _mm256_storeu_ps(product.y + row * product.stride + pass * FourBitWeights::columns + v * lanes,
                           totals[row][v]);
    }
  }

  static void multiply(const StripProduct& product) {
    using Function = void (*)(const StripProduct&);
    static constexpr Function by_rows[most_rows] = {multiply_rows<1>, multiply_rows<2>, multiply_rows<3>,
                                                    multiply_rows<4>, multiply_rows<5>, multiply_rows<6>};
    by_rows[product.count - 1](product);
  }

  static void quantise(const float* from, std::byte* to) {
    for (std::size_t i = 0; i < group_values / four_bit_values; ++i, from += four_bit_values) {
      FourBitRow::Block block;
      quantise_block(from, block);
      __builtin_memcpy(to + i * sizeof block, &block, sizeof block);
    }
  }

  static void quantise_block(const float* from, FourBitRow::Block& block) {
    constexpr std::size_t count = four_bit_values / 8;
    const __m256 no_sign = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    __m256 values[count], tops = _mm256_setzero_ps();
    for (std::size_t i = 0; i < count; ++i) {
      values[i] = _mm256_loadu_ps(from + i * 8);
      tops = _mm256_max_ps(tops, _mm256_and_ps(values[i], no_sign));
    }
    __m128 top = _mm_max_ps(_mm256_castps256_ps128(tops), _mm256_extractf128_ps(tops, 1));
    top = _mm_max_ps(top, _mm_movehl_ps(top, top));
    top = _mm_max_ss(top, _mm_movehdup_ps(top));
    const float most = _mm_cvtss_f32(top);
    const __m256 inverse = _mm256_set1_ps(most > smallest_scaled ? 127.0F / most : 0.0F);
    __m256i whole[count];
    for (std::size_t i = 0; i < count; ++i) whole[i] = _mm256_cvtps_epi32(_mm256_mul_ps(values[i], inverse));
    // Packing works on halves of vectors: four values of each of the eight quarters lie in turn, and are put in order.
    const __m256i words[] = {_mm256_packs_epi32(whole[0], whole[1]), _mm256_packs_epi32(whole[2], whole[3])};
    const __m256i bytes = _mm256_packs_epi16(words[0], words[1]);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(block.values), _mm256_permutevar8x32_epi32(bytes, order));
    const __m256i pairs = _mm256_madd_epi16(_mm256_add_epi16(words[0], words[1]), _mm256_set1_epi16(1));
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
    block.scale = most / 127.0F;
    block.sum = block.scale * static_cast<float>(_mm_cvtsi128_si32(sum));
  }

  /// Whole blocks, as scaling them is part of what a product costs.
  static double multiply_registers(std::size_t rounds) {
    static constexpr FourBitWeights weights{};
    static constexpr FourBitRow::Block x[most_rows]{};
    constexpr std::size_t worth = four_bit_values / 4;  // a round is four inputs, a block eight rounds
    const FourBitRow::Block* from = x;
    __m256 totals[most_rows][2] = {};
    std::size_t blocks = 0;
    for (; blocks * worth < rounds; ++blocks) {
      asm volatile("" : "+r"(from));  // so that no block is taken for the one before it
      add_block<most_rows>(weights, from, sizeof x[0], totals);
    }
    for (auto& row : totals)
      for (auto& total : row) asm volatile("" : "+x"(total));
    return static_cast<double>(blocks * most_rows * FourBitWeights::columns * four_bit_values * 2);
  }

  static constexpr MicroKernels kernels{.level = InstructionLevel::KRUL_LEVEL,
                                        .rows = most_rows,
                                        .step_bytes = sizeof(FourBitRow),
                                        .multiply = multiply,
                                        .quantise = quantise,
                                        .multiply_registers = multiply_registers};
};

}  // namespace
}  // namespace krul::detail
