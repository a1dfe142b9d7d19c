#pragma once

// What micro-kernels share, by the compilers' vector extension. As in lanes.hpp, everything has internal linkage.

#include <cstddef>
#include <utility>

#include "../../levels/lanes.hpp"
#include "../micro_kernels.hpp"

namespace krul::detail {
namespace {

using Floats = Lanes;
using Ints = IntLanes;
using Bits = BitLanes;

constexpr std::size_t lanes = lane_count, vector_bytes = sizeof(Lanes);
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

/// The lanes of a vector in another order: lane i becomes lane order(i).
template <auto order, class Vector>
Vector reordered(Vector from) {
  return [&]<std::size_t... I>(std::index_sequence<I...>) {
    return __builtin_shufflevector(from, from, static_cast<int>(order(I))...);
  }
  (std::make_index_sequence<lanes>());
}

/// Sums and differences of lanes that are Distance apart.
template <std::size_t Distance>
Floats butterfly(Floats values) {
  Floats signs;
  for (std::size_t i = 0; i < lanes; ++i) signs[i] = (i & Distance) == 0 ? 1.0F : -1.0F;
  return reordered<[](std::size_t i) { return i ^ Distance; }>(values) + values * signs;
}

/// Transforms and rounds one group of values. Of one kind of group all levels give the same bits.
template <class Group>
void quantise(const float* from, std::byte* to) {
  using Values [[gnu::vector_size(lanes * sizeof(typename Group::Value))]] = typename Group::Value;
  constexpr auto largest = static_cast<float>(std::numeric_limits<typename Group::Value>::max());
  constexpr std::size_t count = group_values / lanes;
  Floats values[count];
  for (std::size_t i = 0; i < count; ++i) {
    values[i] = butterfly<2>(butterfly<1>(read<Floats>(from + i * lanes)));
    if constexpr (lanes > 4) values[i] = butterfly<4>(values[i]);
  }
  for (std::size_t distance = 1; distance < count; distance *= 2)
    for (std::size_t block = 0; block < count; block += 2 * distance)
      for (std::size_t i = block; i < block + distance; ++i) {
        const Floats a = values[i], b = values[i + distance];
        values[i] = a + b;
        values[i + distance] = a - b;
      }
  Floats tops{};
  for (const Floats& each : values) {
    const Floats size = each < 0.0F ? -each : each;
    tops = tops < size ? size : tops;
  }
  float most = 0;
  for (std::size_t lane = 0; lane < lanes; ++lane) most = most < tops[lane] ? tops[lane] : most;
  const float inverse = most > smallest_scaled ? largest / most : 0.0F;
  Group group;
  Ints sums{};
  for (std::size_t i = 0; i < count; ++i) {
    // To nearest even: adding 1.5 * 2^23 leaves the whole number in the low bits.
    const Ints whole = same_bits<Ints>(values[i] * inverse + 12582912.0F) - 0x4b400000;
    sums += whole;
    const auto rounded = __builtin_convertvector(reordered<Group::source>(whole), Values);
    __builtin_memcpy(group.values + i * lanes, &rounded, sizeof rounded);
  }
  std::int32_t sum = 0;
  for (std::size_t lane = 0; lane < lanes; ++lane) sum += sums[lane];
  group.scale = most / largest;
  group.start = -128 * sum;
  __builtin_memcpy(to, &group, sizeof group);
}

}  // namespace
}  // namespace krul::detail
