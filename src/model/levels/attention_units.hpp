#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "../../levels/lanes.hpp"
#include "krul/core/element_type.hpp"

namespace krul {
namespace {

/// One unit in all lanes.
inline IntLanes broadcast_unit(const std::int32_t* unit) {
  return *unit - IntLanes{};
}
inline IntLanes load_units(const std::int32_t* from) {
  IntLanes lanes;
  __builtin_memcpy(&lanes, from, sizeof lanes);
  return lanes;
}
inline void store_units(IntLanes lanes, std::int32_t* to) {
  __builtin_memcpy(to, &lanes, sizeof lanes);
}
inline IntLanes as_units(Lanes lanes) {
  IntLanes units;
  __builtin_memcpy(&units, &lanes, sizeof units);
  return units;
}
inline Lanes as_floats(IntLanes units) {
  Lanes lanes;
  __builtin_memcpy(&lanes, &units, sizeof lanes);
  return lanes;
}

// How operands become units, and what a lane adds to its sum.
//   pack                   values in a unit
//   dot(sum, a, b)         sum + a * b, over the unit's values
//   row(from)              units of pack * lane_count values that follow one another; from[pack]
//   column(from)           units of the same value of `pack` rows; from[pack]
//   weight(score, scale, top)  e^(scale * score - top)

struct F32Units {
  static constexpr ElementType type = ElementType::f32;
  static constexpr std::size_t pack = 1;
  static Lanes dot(Lanes sum, IntLanes a, IntLanes b) { return multiply_add(as_floats(a), as_floats(b), sum); }
  static IntLanes row(const Lanes* from) { return as_units(from[0]); }
  static IntLanes column(const Lanes* from) { return as_units(from[0]); }
  static Lanes weight(Lanes score, float scale, Lanes top) { return exp(multiply_add(score, scale, -top)); }
};

#if defined(__AVX512BF16__)
struct Bf16Units {
  static constexpr ElementType type = ElementType::bf16;
  static constexpr std::size_t pack = 2;
  static Lanes dot(Lanes sum, IntLanes a, IntLanes b) {
    return (Lanes)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
  }
  static IntLanes row(const Lanes* from) { return (IntLanes)_mm512_cvtne2ps_pbh((__m512)from[1], (__m512)from[0]); }
  static IntLanes column(const Lanes* from) {
    using Halves [[gnu::vector_size(64)]] = std::uint16_t;
    const auto halves = (Halves)row(from);
    const auto paired = [&]<std::size_t... I>(std::index_sequence<I...>) {
      return __builtin_shufflevector(halves, halves, (I / 2 + I % 2 * lane_count)...);
    }
    (std::make_index_sequence<2 * lane_count>());
    return (IntLanes)paired;
  }
  static Lanes weight(Lanes score, float scale, Lanes top) {
    constexpr float log2_e = 1.44269504F;
    return exp2_for_bf16(multiply_add(score, scale * log2_e, top * -log2_e));
  }
};
#endif

/// Two vectors of floats as bf16 to nearest even, in memory.
inline void store_as_bf16(const Lanes* from, std::uint16_t* to) {
  for (std::size_t half = 0; half < 2; ++half) {
    const HalfLanes rounded = nearest_bf16(from[half]);
    __builtin_memcpy(to + half * lane_count, &rounded, sizeof rounded);
  }
}

}  // namespace
}  // namespace krul
