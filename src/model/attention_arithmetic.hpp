#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "krul/core/element_type.hpp"
#include "krul/model/attention.hpp"
#include "lanes.hpp"

namespace krul {

// Operands of the two products lie in units of 32 bits, one in each lane: an f32, or a pair of bf16 that are neighbours
// along the sum. So both arithmetics share their layouts, and the transposition of keys.

/// One unit in all lanes.
inline IntLanes broadcast_unit(const std::int32_t* unit) {
  return *unit - IntLanes{};
}
inline IntLanes load_units(const std::int32_t* from) {
  IntLanes lanes;
  std::memcpy(&lanes, from, sizeof lanes);
  return lanes;
}
inline void store_units(IntLanes lanes, std::int32_t* to) {
  std::memcpy(to, &lanes, sizeof lanes);
}
inline IntLanes as_units(Lanes lanes) {
  IntLanes units;
  std::memcpy(&units, &lanes, sizeof units);
  return units;
}
inline Lanes as_floats(IntLanes units) {
  Lanes lanes;
  std::memcpy(&lanes, &units, sizeof lanes);
  return lanes;
}

/// Rounds to bf16 in the upper half of each lane; the lower half is rubbish.
inline IntLanes round_to_upper(Lanes lanes) {
  const IntLanes bits = as_units(lanes);
  return bits + 0x7fff + ((bits >> 16) & 1);
}

/// How operands become units, and what a lane adds to its sum.
///   pack                   values in a unit
///   dot(sum, a, b)         sum + a * b, over the unit's values
///   row(from)              units of pack * lane_count values that follow one another; from[pack]
///   column(from)           units of the same value of `pack` rows; from[pack]
template <AttentionArithmetic Arithmetic>
struct Units;

template <>
struct Units<F32Arithmetic> {
  static constexpr std::size_t pack = 1;
  static Lanes dot(Lanes sum, IntLanes a, IntLanes b) { return sum + as_floats(a) * as_floats(b); }
  static IntLanes row(const std::array<Lanes, pack>& from) { return as_units(from[0]); }
  static IntLanes column(const std::array<Lanes, pack>& from) { return as_units(from[0]); }
  /// e^(scale * score - top)
  static Lanes weight(Lanes score, float scale, float top) { return exp(score * scale - top); }
};

template <>
struct Units<Bf16Arithmetic> {
  static constexpr std::size_t pack = 2;
  static constexpr float log2_e = 1.44269504F;

#if defined(__AVX512BF16__)
  static Lanes dot(Lanes sum, IntLanes a, IntLanes b) {
    return (Lanes)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
  }
  static IntLanes row(const std::array<Lanes, pack>& from) {
    return (IntLanes)_mm512_cvtne2ps_pbh((__m512)from[1], (__m512)from[0]);
  }
  static IntLanes column(const std::array<Lanes, pack>& from) {
    using Halves [[gnu::vector_size(64)]] = std::uint16_t;
    const auto halves = (Halves)row(from);
    const auto paired = [&]<std::size_t... I>(std::index_sequence<I...>) {
      return __builtin_shufflevector(halves, halves, (I / 2 + I % 2 * lane_count)...);
    }
    (std::make_index_sequence<2 * lane_count>());
    return (IntLanes)paired;
  }
#else
  static Lanes dot(Lanes sum, IntLanes a, IntLanes b) {
    constexpr auto upper = static_cast<std::int32_t>(0xffff0000);
    sum += as_floats(a & upper) * as_floats(b & upper);
    return sum + as_floats(a << 16) * as_floats(b << 16);
  }
  static IntLanes column(const std::array<Lanes, pack>& from) {
    return ((round_to_upper(from[0]) >> 16) & 0xffff) |
           (round_to_upper(from[1]) & static_cast<std::int32_t>(0xffff0000));
  }
  static IntLanes row(const std::array<Lanes, pack>& from) {
    const auto pick = [&]<std::size_t Parity, std::size_t... I>(std::integral_constant<std::size_t, Parity>,
                                                                std::index_sequence<I...>) {
      return __builtin_shufflevector(from[0], from[1], (2 * I + Parity)...);
    };
    constexpr auto lanes = std::make_index_sequence<lane_count>();
    return column(
        {pick(std::integral_constant<std::size_t, 0>(), lanes), pick(std::integral_constant<std::size_t, 1>(), lanes)});
  }
#endif
  static Lanes weight(Lanes score, float scale, float top) {
    return exp2_for_bf16(score * (scale * log2_e) - top * log2_e);
  }
};

}  // namespace krul
