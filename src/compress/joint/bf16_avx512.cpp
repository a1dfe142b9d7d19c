#include "bf16_kernels.hpp"

#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>

// Only what is marked is compiled for these instructions: this file needs no flags, and nothing of it leaks into
// others.
#define KRUL_BF16 __attribute__((target("avx512f,avx512bf16")))

namespace krul::detail {
namespace {

constexpr std::size_t height = Bf16Rows::step, width = Bf16Panels::width;

/// Where a tile of the product begins, and how far apart its rows are.
struct Place {
  std::size_t row, panel, stride;
};

/// Eight rows times `Panels` panels: with three, 24 sums stay in registers.
template <std::size_t Panels>
KRUL_BF16 void tile(const Bf16Rows& rows, const Bf16Panels& panels, Place at, float* out) {
  const std::size_t pairs = rows.pairs(), panel_words = panels.pairs() * width;
  __m512 sums[height][Panels];
  for (auto& row : sums)
    for (auto& sum : row) sum = _mm512_setzero_ps();
  const std::uint32_t* right = panels.panel(at.panel);
  const std::uint32_t* left = rows.pair(0) + at.row;
  for (std::size_t pair = 0; pair < pairs; ++pair, left += rows.padded_rows(), right += width) {
    __m512bh columns[Panels];
    for (std::size_t i = 0; i < Panels; ++i) columns[i] = (__m512bh)_mm512_loadu_si512(right + i * panel_words);
    for (std::size_t row = 0; row < height; ++row) {
      const auto both = (__m512bh)_mm512_set1_epi32(static_cast<int>(left[row]));
      for (std::size_t i = 0; i < Panels; ++i) sums[row][i] = _mm512_dpbf16_ps(sums[row][i], both, columns[i]);
    }
  }
  for (std::size_t row = 0; row < height; ++row)
    for (std::size_t i = 0; i < Panels; ++i)
      _mm512_storeu_ps(out + (at.row + row) * at.stride + (at.panel + i) * width, sums[row][i]);
}

}  // namespace

void multiply_avx512(const Bf16Rows& rows, const Bf16Panels& panels, std::size_t count, float* out) {
  if (rows.pairs() == 0) {
    std::fill_n(out, rows.padded_rows() * count * width, 0.0F);
    return;
  }
  for (std::size_t panel = 0; panel < count; panel += 3) {
    const std::size_t left = std::min<std::size_t>(3, count - panel);
    const auto run = left == 3 ? tile<3> : left == 2 ? tile<2> : tile<1>;
    for (std::size_t row = 0; row < rows.padded_rows(); row += height)
      run(rows, panels, {row, panel, count * width}, out);
  }
}

}  // namespace krul::detail

#else

namespace krul::detail {

void multiply_avx512(const Bf16Rows& rows, const Bf16Panels& panels, std::size_t count, float* out) {
  multiply_portable(rows, panels, count, out);
}

}  // namespace krul::detail

#endif
