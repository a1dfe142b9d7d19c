#pragma once

// Products of Int8Rows and Int8Panels, by what each level has for them. Each file that includes this is compiled for
// other instructions: everything has internal linkage. Sums are whole numbers, so all levels give the same.

#include "../../levels/lanes.hpp"
#include "../joint/joint_loops.hpp"

namespace krul::detail {
namespace {

constexpr std::size_t tile_panels = lane_count == 16 ? 2 : 1;  ///< of a register tile
constexpr std::size_t panel_parts = panel_width / lane_count;  ///< vectors of a panel
constexpr std::size_t tile_parts = tile_panels * panel_parts;  ///< vectors of a tile
constexpr std::size_t tile_rows = lane_count == 16  ? 8
                                  : lane_count == 8 ? 6
                                                    : 2;  ///< with them sums fill the registers

using Sums = IntLanes;

// How the rows of a tile lie in `room`, and how they are multiplied with the vectors of one quad of depths:
//   words                 of a row for one quad
//   expand(word, to)      one word of a row
//   add(sums, weights, x) the products of x, at one quad of the first row, whose rows lie `apart` words apart

#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
/// Dot products of bytes; rows are used as they are.
struct Tile {
  static constexpr std::size_t words = 1;
  static void expand(std::uint32_t word, std::uint32_t* to) { *to = word; }
  template <std::size_t Rows, std::size_t Parts>
  static void add(Sums (&sums)[Rows][Parts], const IntLanes (&weights)[Parts], const std::uint32_t* x,
                  std::size_t apart) {
#pragma GCC unroll 8
    for (std::size_t row = 0; row < Rows; ++row) {
      const IntLanes four = static_cast<std::int32_t>(x[row * apart]) - IntLanes{};
#pragma GCC unroll 2
      for (std::size_t i = 0; i < Parts; ++i)  // as the builtin, GCC 12 copies every sum before and after it
#if defined(__AVX512VNNI__)
        asm("vpdpbusd %2, %1, %0" : "+v"(sums[row][i]) : "v"(weights[i]), "v"(four));
#else
        asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sums[row][i]) : "x"(weights[i]), "x"(four));
#endif
    }
  }
};
#elif defined(__AVX2__)
/// Products of words: of four depths, the first and the third lie in one, the second and the last in the other.
struct Tile {
  static constexpr std::size_t words = 2;
  static void expand(std::uint32_t word, std::uint32_t* to) {
    const auto pair = [&](unsigned low, unsigned high) {
      const auto value = [&](unsigned at) {
        return static_cast<std::uint32_t>(static_cast<std::int32_t>(static_cast<std::int8_t>(word >> 8 * at)));
      };
      return (value(low) & 0xffffU) | value(high) << 16;
    };
    to[0] = pair(0, 2);
    to[1] = pair(1, 3);
  }
  template <std::size_t Rows, std::size_t Parts>
  static void add(Sums (&sums)[Rows][Parts], const IntLanes (&weights)[Parts], const std::uint32_t* x,
                  std::size_t apart) {
    IntLanes even[Parts], odd[Parts];
    for (std::size_t i = 0; i < Parts; ++i) even[i] = weights[i] & 0x00ff00ff;
    add_pairs(sums, even, x, apart);
    for (std::size_t i = 0; i < Parts; ++i) odd[i] = (IntLanes)_mm256_srli_epi16((__m256i)weights[i], 8);
    add_pairs(sums, odd, x + 1, apart);
  }

 private:
  /// As instructions: GCC 12 loads the values of all rows before it uses the first, for which there are no registers.
  template <std::size_t Rows>
  static void add_pairs(Sums (&sums)[Rows][2], const IntLanes (&weights)[2], const std::uint32_t* x,
                        std::size_t apart) {
#pragma GCC unroll 8
    for (std::size_t row = 0; row < Rows; ++row) {
      IntLanes values, products;
      asm("vpbroadcastd %4, %2\n\t"
          "vpmaddwd %5, %2, %3\n\t"
          "vpmaddwd %6, %2, %2\n\t"
          "vpaddd %3, %0, %0\n\t"
          "vpaddd %2, %1, %1"
          : "+x"(sums[row][0]), "+x"(sums[row][1]), "=&x"(values), "=&x"(products)
          : "m"(x[row * apart]), "x"(weights[0]), "x"(weights[1]));
    }
  }
};
#else
/// Byte by byte.
struct Tile {
  static constexpr std::size_t words = 1;
  static void expand(std::uint32_t word, std::uint32_t* to) { *to = word; }
  template <std::size_t Rows, std::size_t Parts>
  static void add(Sums (&sums)[Rows][Parts], const IntLanes (&weights)[Parts], const std::uint32_t* x,
                  std::size_t apart) {
    for (int shift = 0; shift < 32; shift += 8)
      for (std::size_t row = 0; row < Rows; ++row) {
        const auto value = static_cast<std::int8_t>(x[row * apart] >> shift);
        for (std::size_t i = 0; i < Parts; ++i) sums[row][i] += ((weights[i] >> shift) & 0xff) * value;
      }
  }
};
#endif

/// Where a tile lies in a product.
struct TilePlace {
  std::size_t row, panel;
};

template <std::size_t Rows, std::size_t Panels>
void multiply_tile(const Int8RowsView& rows, const Int8PanelsView& panels, TilePlace at, const std::uint32_t* x,
                   float* out) {
  constexpr std::size_t parts = Panels * panel_parts;
  const std::size_t apart = rows.quads * Tile::words, stride = panels.panels * panel_width;
  Sums sums[Rows][parts] = {};
  const std::uint32_t* weights = panels.words + at.panel * panels.words_apart;
  // The first rows bring the next panels near: the whole matrix passes through the caches for each few rows.
  const std::size_t tile = at.row / tile_rows, ahead = tile < Panels ? (Panels + tile) * panels.words_apart : 0;
  for (std::size_t quad = 0; quad < rows.quads; ++quad, weights += panel_width, x += Tile::words) {
    __builtin_prefetch(weights + ahead, 0, 2);
    IntLanes columns[parts];
#pragma GCC unroll 2
    for (std::size_t i = 0; i < parts; ++i)
      __builtin_memcpy(&columns[i], weights + i / panel_parts * panels.words_apart + i % panel_parts * lane_count,
                       sizeof columns[i]);
    Tile::add(sums, columns, x, apart);
  }
#pragma GCC unroll 8
  for (std::size_t row = 0; row < Rows; ++row)
#pragma GCC unroll 2
    for (std::size_t i = 0; i < parts; ++i) {
      const std::size_t column = at.panel * panel_width + i * lane_count;
      const Lanes whole = __builtin_convertvector(sums[row][i] - rows.excesses[at.row + row], Lanes);
      store(fused(whole * rows.scales[at.row + row], load(panels.scales + column), load(panels.offsets + column)),
            out + (at.row + row) * stride + column);
    }
}

/// All rows of some panels: with these in the second-level cache.
template <std::size_t Panels>
void multiply_panels(const Int8RowsView& rows, const Int8PanelsView& panels, std::size_t panel, const std::uint32_t* x,
                     float* out) {
  const auto tile = [&]<std::size_t Rows>(std::size_t row) {
    multiply_tile<Rows, Panels>(rows, panels, {row, panel}, x + row * rows.quads * Tile::words, out);
  };
  std::size_t row = 0;
  for (; row + tile_rows <= rows.rows; row += tile_rows) tile.template operator()<tile_rows>(row);
  if constexpr (tile_rows == 6) {  // of a number of rows that eight divides, none, two or four are left
    if (rows.rows - row == 4) tile.template operator()<4>(row);
    if (rows.rows - row == 2) tile.template operator()<2>(row);
  }
}

void multiply(const Int8RowsView& rows, const Int8PanelsView& panels, std::uint32_t* room, float* out) {
  const std::uint32_t* x = rows.words;
  if constexpr (Tile::words > 1) {
    for (std::size_t i = 0; i < rows.rows * rows.quads; ++i) Tile::expand(x[i], room + i * Tile::words);
    x = room;
  }
  std::size_t panel = 0;
  for (; panel + tile_panels <= panels.panels; panel += tile_panels)
    multiply_panels<tile_panels>(rows, panels, panel, x, out);
  if (panel < panels.panels) multiply_panels<1>(rows, panels, panel, x, out);
}

}  // namespace
}  // namespace krul::detail
