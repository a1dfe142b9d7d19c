#pragma once

// Micro-kernels by the compilers' vector extension. Each file that includes this is compiled for other instructions, so
// everything has internal linkage and nothing is included whose inline functions two such files might share.

#include "micro_kernels.hpp"
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace krul::detail {
namespace {

#if defined(__AVX__)
constexpr std::size_t vector_bytes = 32;
#else
constexpr std::size_t vector_bytes = 16;
#endif
using Floats [[gnu::vector_size(vector_bytes)]] = float;
using Ints [[gnu::vector_size(vector_bytes)]] = std::int32_t;
using Bits [[gnu::vector_size(vector_bytes)]] = std::uint32_t;

constexpr std::size_t lanes = vector_bytes / sizeof(float);
constexpr std::size_t vectors = strip_columns / lanes;

template <class To, class From>
To read(const From* from) {
  To value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}
template <class To, class From>
To same_bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  return read<To>(&from);
}

struct F32 {
  static constexpr std::size_t step_bytes = sizeof(float);
  static Floats add_product(Floats sum, Bits weights, const std::byte* x) {
    return sum + same_bits<Floats>(weights) * read<float>(x);
  }
};

struct Bf16 {
  static constexpr std::size_t step_bytes = 2 * sizeof(std::uint16_t);
  static Floats add_product(Floats sum, Bits weights, const std::byte* x) {
    const auto pair = read<std::uint32_t>(x);
    sum = sum + same_bits<Floats>(weights << 16) * same_bits<float>(pair << 16);
    return sum + same_bits<Floats>(weights & 0xffff0000U) * same_bits<float>(pair & 0xffff0000U);
  }
};

template <class Type, std::size_t Rows>
void multiply_float(const StripProduct& product) {
  Floats sums[Rows][vectors] = {};
  const std::byte* x = product.rows;
  const std::byte* weights = product.strip;
  for (std::size_t step = 0; step < product.steps; ++step) {
    for (std::size_t v = 0; v < vectors; ++v)
      for (std::size_t row = 0; row < Rows; ++row)
        sums[row][v] =
            Type::add_product(sums[row][v], read<Bits>(weights + v * vector_bytes), x + row * product.row_bytes);
    x += Type::step_bytes;
    weights += vector_bytes * vectors;
  }
  for (std::size_t row = 0; row < Rows; ++row)
    for (std::size_t v = 0; v < vectors; ++v)
      __builtin_memcpy(product.y + row * product.stride + v * lanes, &sums[row][v], sizeof(Floats));
}

/// Of each lane: the sum of its four products of a weight, without a sign, and a value, with one.
Ints add_four(Ints sum, Bits weights, std::uint32_t values) {
  const auto value = [&](int at) { return static_cast<std::int32_t>(static_cast<std::int8_t>(values >> (8 * at))); };
#if defined(__AVX2__)
  const auto pair = [](std::int32_t low, std::int32_t high) {
    return _mm256_set1_epi32(
        static_cast<int>((static_cast<std::uint32_t>(low) & 0xffffU) | (static_cast<std::uint32_t>(high) << 16)));
  };
  const auto even = same_bits<__m256i>(weights & 0xff00ffU), odd = same_bits<__m256i>((weights >> 8) & 0xff00ffU);
  return sum + same_bits<Ints>(_mm256_add_epi32(_mm256_madd_epi16(even, pair(value(0), value(2))),
                                                _mm256_madd_epi16(odd, pair(value(1), value(3)))));
#else
  for (int at = 0; at < 4; ++at) sum += same_bits<Ints>((weights >> (8 * at)) & 0xffU) * value(at);
  return sum;
#endif
}

void multiply_int8(const StripProduct& product) {
  for (std::size_t row = 0; row < product.count; ++row) {
    Floats sums[vectors] = {};
    const std::byte* x = product.rows + row * product.row_bytes;
    const std::byte* weights = product.strip;
    for (std::size_t step = 0; step < product.steps; ++step) {
      Int8Group group;
      __builtin_memcpy(&group, x, sizeof group);
      Ints whole[vectors];
      for (auto& sum : whole) sum = group.start - Ints{};
      for (std::size_t quad = 0; quad < group_values / 4; ++quad) {
        const auto values = read<std::uint32_t>(group.values + 4 * quad);
        for (std::size_t v = 0; v < vectors; ++v)
          whole[v] = add_four(whole[v], read<Bits>(weights + v * vector_bytes), values);
        weights += vector_bytes * vectors;
      }
      for (std::size_t v = 0; v < vectors; ++v) sums[v] += __builtin_convertvector(whole[v], Floats) * group.scale;
      x += sizeof(Int8Group);
    }
    for (std::size_t v = 0; v < vectors; ++v) {
      const Floats scaled = sums[v] * read<Floats>(weights + v * vector_bytes);
      __builtin_memcpy(product.y + row * product.stride + v * lanes, &scaled, sizeof scaled);
    }
  }
}

template <class Type>
void multiply_floats(const StripProduct& product) {
  using Function = void (*)(const StripProduct&);
  static constexpr Function by_rows[] = {multiply_float<Type, 1>, multiply_float<Type, 2>, multiply_float<Type, 3>};
  by_rows[product.count - 1](product);
}

void quantise_group(const float* from, Int8Group& group) {
  float values[group_values];
  __builtin_memcpy(values, from, sizeof values);
  for (std::size_t distance = 1; distance < group_values; distance *= 2)
    for (std::size_t block = 0; block < group_values; block += 2 * distance)
      for (std::size_t i = block; i < block + distance; ++i) {
        const float a = values[i], b = values[i + distance];
        values[i] = a + b;
        values[i + distance] = a - b;
      }
  float most = 0;
  for (const float value : values) most = most < __builtin_fabsf(value) ? __builtin_fabsf(value) : most;
  const float inverse = most > smallest_scaled ? 127.0F / most : 0.0F;
  std::int32_t sum = 0;
  for (std::size_t i = 0; i < group_values; ++i) {
    const auto whole = static_cast<std::int32_t>(__builtin_lrintf(values[i] * inverse));
    group.values[i] = static_cast<std::int8_t>(whole);
    sum += whole;
  }
  group.scale = most / 127.0F;
  group.start = -128 * sum;
}

/// Products in f32, which the other precisions are made of as well. Six chains keep the units busy.
double multiply_registers(std::size_t rounds) {
  Floats sums[6] = {};
  const Floats factor{};
  for (std::size_t round = 0; round < rounds; ++round)
    for (auto& sum : sums) {
      sum = sum + factor * factor;
#if defined(__x86_64__)
      __asm__ volatile("" : "+x"(sum));  // so that none is left out
#endif
    }
  return static_cast<double>(rounds * 6 * lanes * 2);
}

constexpr MicroKernels generic_f32(const char* instructions) {
  return {instructions, 3, false, multiply_floats<F32>, nullptr, multiply_registers};
}
constexpr MicroKernels generic_bf16(const char* instructions) {
  return {instructions, 3, false, multiply_floats<Bf16>, nullptr, multiply_registers};
}
constexpr MicroKernels generic_int8(const char* instructions) {
  return {instructions, 6, false, multiply_int8, quantise_group, multiply_registers};
}

}  // namespace
}  // namespace krul::detail
