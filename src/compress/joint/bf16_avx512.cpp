#include "bf16_kernels.hpp"

#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>

// Only what is marked is compiled for these instructions: this file needs no flags, and nothing of it leaks into others.
#define KRUL_BF16 __attribute__((target("avx512f,avx512bf16")))

namespace krul::detail {
namespace {

constexpr std::size_t height = Bf16Rows::step, width = Bf16Panels::width;

/// Eight rows times `Panels` panels: with three, 24 sums stay in registers.
template <std::size_t Panels>
KRUL_BF16 void tile(const Bf16Rows& rows, const Bf16Panels& panels, std::size_t first_row, std::size_t first_panel,
                    float* out) {
  const std::size_t pairs = panels.pairs(), stride = panels.panels() * width;
  __m512 sums[height][Panels];
  for (auto& row : sums)
    for (auto& sum : row) sum = _mm512_setzero_ps();
  const std::uint32_t* right = panels.panel(first_panel);
  const std::uint32_t* left = rows.pair(0) + first_row;
  for (std::size_t pair = 0; pair < pairs; ++pair, left += rows.padded_rows(), right += width) {
    __m512bh columns[Panels];
    for (std::size_t i = 0; i < Panels; ++i)
      columns[i] = (__m512bh)_mm512_loadu_si512(right + i * pairs * width);
    for (std::size_t row = 0; row < height; ++row) {
      const auto both = (__m512bh)_mm512_set1_epi32(static_cast<int>(left[row]));
      for (std::size_t i = 0; i < Panels; ++i) sums[row][i] = _mm512_dpbf16_ps(sums[row][i], both, columns[i]);
    }
  }
  for (std::size_t row = 0; row < height; ++row)
    for (std::size_t i = 0; i < Panels; ++i)
      _mm512_storeu_ps(out + (first_row + row) * stride + (first_panel + i) * width, sums[row][i]);
}

}  // namespace

void multiply_avx512(const Bf16Rows& rows, const Bf16Panels& panels, float* out) {
  if (rows.pairs() == 0) {
    std::fill_n(out, rows.padded_rows() * panels.panels() * width, 0.0F);
    return;
  }
  for (std::size_t panel = 0; panel < panels.panels(); panel += 3) {
    const std::size_t count = std::min<std::size_t>(3, panels.panels() - panel);
    const auto run = count == 3 ? tile<3> : count == 2 ? tile<2> : tile<1>;
    for (std::size_t row = 0; row < rows.padded_rows(); row += height) run(rows, panels, row, panel, out);
  }
}

}  // namespace krul::detail

#else

namespace krul::detail {

void multiply_avx512(const Bf16Rows& rows, const Bf16Panels& panels, float* out) {
  multiply_portable(rows, panels, out);
}

}  // namespace krul::detail

#endif
