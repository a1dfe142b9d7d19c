#pragma once

#include <immintrin.h>

#include <array>
#include <cstdint>

// Only what is marked is compiled for these instructions: files that include this need no flags, and nothing of it
// leaks into others.
#define KRUL_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,popcnt,bmi2")))
#define KRUL_AVX512_INLINE KRUL_AVX512 __attribute__((always_inline)) inline

namespace krul::detail {

/// The streams of a step: 16-bit lane 2 i of a vector is that of `even`'s lane i, lane 2 i + 1 that of `odd`'s. In
/// memory the even ones come first.
struct Streams {
  __m512i even, odd;
};

KRUL_AVX512_INLINE Streams load_streams(const std::array<std::uint32_t, 32>& from) {
  return {_mm512_loadu_si512(&from[0]), _mm512_loadu_si512(&from[16])};
}

KRUL_AVX512_INLINE void store_streams(Streams x, std::array<std::uint32_t, 32>& to) {
  _mm512_storeu_si512(&to[0], x.even);
  _mm512_storeu_si512(&to[16], x.odd);
}

}  // namespace krul::detail
