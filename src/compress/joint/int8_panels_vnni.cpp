#include "int8_panels_kernels.hpp"

#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>

// Only what is marked is compiled for these instructions: this file needs no flags, and nothing of it leaks into
// others.
#define KRUL_VNNI __attribute__((target("avx512f,avx512vnni")))

namespace krul::detail {
namespace {

constexpr std::size_t height = Int8Rows::step, width = Int8Panels::width;

/// Where a tile of the product begins, and how far apart its rows are. Handed over by reference: a copy would wait
/// until the tile before has been written.
struct Place {
  std::size_t row, panel, stride;
};

/// Adds the products of four unsigned and four signed bytes to each sum. As the builtin, GCC 12 copies every sum before
/// and after it, which takes as long as the products.
KRUL_VNNI inline void add_products(__m512i bytes, __m512i by, __m512i& sums) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(bytes), "v"(by));
}

/// Eight rows times `Panels` panels: with two, 16 sums stay in registers, which GCC 12 does not manage with 24.
template <std::size_t Panels>
KRUL_VNNI void tile(const Int8Rows& rows, const Int8Panels& panels, const Place& at, float* out) {
  const std::size_t quads = rows.quads(), panel_words = panels.quads() * width;
  // Loops over sums are unrolled, or the compiler keeps them in memory.
  __m512i sums[height][Panels];
#pragma GCC unroll 8
  for (std::size_t row = 0; row < height; ++row)
#pragma GCC unroll 2
    for (std::size_t i = 0; i < Panels; ++i) sums[row][i] = _mm512_setzero_si512();
  const std::uint32_t* right = panels.panel(at.panel);
  const std::uint32_t* left = rows.row(at.row);
  // The first rows bring the next panels near: the whole matrix passes through the caches for each few rows.
  const std::size_t tile_row = at.row / height, ahead = tile_row < Panels ? (Panels + tile_row) * panel_words : 0;
  for (std::size_t quad = 0; quad < quads; ++quad, ++left, right += width) {
    _mm_prefetch(reinterpret_cast<const char*>(right + ahead), _MM_HINT_T1);
    __m512i columns[Panels];
#pragma GCC unroll 2
    for (std::size_t i = 0; i < Panels; ++i) columns[i] = _mm512_loadu_si512(right + i * panel_words);
#pragma GCC unroll 8
    for (std::size_t row = 0; row < height; ++row) {
      const __m512i four = _mm512_set1_epi32(static_cast<int>(left[row * quads]));
#pragma GCC unroll 2
      for (std::size_t i = 0; i < Panels; ++i) add_products(columns[i], four, sums[row][i]);
    }
  }
#pragma GCC unroll 8
  for (std::size_t row = 0; row < height; ++row) {
    const __m512 scale = _mm512_set1_ps(rows.scale(at.row + row));
    const __m512i excess = _mm512_set1_epi32(rows.excess(at.row + row));
#pragma GCC unroll 2
    for (std::size_t i = 0; i < Panels; ++i)
      _mm512_storeu_ps(out + (at.row + row) * at.stride + (at.panel + i) * width,
                       _mm512_mul_ps(scale, _mm512_cvtepi32_ps(_mm512_sub_epi32(sums[row][i], excess))));
  }
}

}  // namespace

void multiply_vnni(const Int8Rows& rows, const Int8Panels& panels, std::size_t count, float* out) {
  if (rows.quads() == 0) {
    std::fill_n(out, rows.padded_rows() * count * width, 0.0F);
    return;
  }
  for (std::size_t panel = 0; panel < count; panel += 2) {
    const std::size_t left = std::min<std::size_t>(2, count - panel);
    const auto run = left == 2 ? tile<2> : tile<1>;
    for (std::size_t row = 0; row < rows.padded_rows(); row += height)
      run(rows, panels, {row, panel, count * width}, out);
  }
}

}  // namespace krul::detail

#else

namespace krul::detail {

void multiply_vnni(const Int8Rows& rows, const Int8Panels& panels, std::size_t count, float* out) {
  multiply_portable(rows, panels, count, out);
}

}  // namespace krul::detail

#endif
