// f32 and bf16 products by the compilers' vector extension, and those of int8 where no level has more for them.
#include "micro_kernels_generic.hpp"

namespace krul::detail {
namespace {

struct F32 {
  static constexpr std::size_t step_bytes = sizeof(float);
  static Floats add_product(Floats sum, Bits weights, const std::byte* x) {
    return multiply_add(same_bits<Floats>(weights), read<float>(x), sum);
  }
};

struct Bf16 {
  static constexpr std::size_t step_bytes = 2 * sizeof(std::uint16_t);
  static Floats add_product(Floats sum, Bits weights, const std::byte* x) {
    const auto pair = read<std::uint32_t>(x);
    sum = multiply_add(same_bits<Floats>(weights << 16), same_bits<float>(pair << 16), sum);
    return multiply_add(same_bits<Floats>(weights & 0xffff0000U), same_bits<float>(pair & 0xffff0000U), sum);
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

constexpr std::size_t most_rows = 3;

template <class Type>
void multiply_floats(const StripProduct& product) {
  using Function = void (*)(const StripProduct&);
  static constexpr Function by_rows[most_rows] = {multiply_float<Type, 1>, multiply_float<Type, 2>,
                                                  multiply_float<Type, 3>};
  by_rows[product.count - 1](product);
}

/// Products in f32, which the other precisions are made of as well. Six chains keep the units busy.
double multiply_registers(std::size_t rounds) {
  Floats sums[6] = {};
  const Floats factor{};
  for (std::size_t round = 0; round < rounds; ++round)
    for (auto& sum : sums) {
      sum = multiply_add(factor, factor, sum);
#if defined(__x86_64__)
      __asm__ volatile("" : "+x"(sum));  // so that none is left out
#endif
    }
  return static_cast<double>(rounds * 6 * lanes * 2);
}

template <class Type>
constexpr MicroKernels float_kernels{.level = InstructionLevel::KRUL_LEVEL,
                                     .rows = most_rows,
                                     .step_bytes = Type::step_bytes,
                                     .multiply = multiply_floats<Type>,
                                     .multiply_registers = multiply_registers};

#if !defined(__AVX2__)
/// Of each lane: the sum of its four products of a weight, without a sign, and a value, with one.
Ints add_four(Ints sum, Bits weights, std::uint32_t values) {
  const auto value = [&](int at) { return static_cast<std::int32_t>(static_cast<std::int8_t>(values >> (8 * at))); };
  for (int at = 0; at < 4; ++at) sum += same_bits<Ints>((weights >> (8 * at)) & 0xffU) * value(at);
  return sum;
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
      for (std::size_t v = 0; v < vectors; ++v)
        sums[v] = multiply_add(__builtin_convertvector(whole[v], Floats), group.scale, sums[v]);
      x += sizeof(Int8Group);
    }
    for (std::size_t v = 0; v < vectors; ++v) {
      const Floats scaled = sums[v] * read<Floats>(weights + v * vector_bytes);
      __builtin_memcpy(product.y + row * product.stride + v * lanes, &scaled, sizeof scaled);
    }
  }
}

constexpr MicroKernels int8{.level = InstructionLevel::KRUL_LEVEL,
                            .rows = 6,
                            .step_bytes = sizeof(Int8Group),
                            .multiply = multiply_int8,
                            .quantise = quantise<Int8Group>,
                            .multiply_registers = multiply_registers};
#endif

}  // namespace

template <>
const MicroKernels* micro_kernels<Precision::f32, InstructionLevel::KRUL_LEVEL>() {
  return &float_kernels<F32>;
}
template <>
const MicroKernels* micro_kernels<Precision::bf16, InstructionLevel::KRUL_LEVEL>() {
  return &float_kernels<Bf16>;
}
#if !defined(__AVX2__)
template <>
const MicroKernels* micro_kernels<Precision::int8, InstructionLevel::KRUL_LEVEL>() {
  return &int8;
}
#endif

}  // namespace krul::detail
