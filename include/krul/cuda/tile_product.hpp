#pragma once

#include <cstdint>

namespace krul::cuda {

/// What one lane holds of a product of small matrices that a warp computes together: sums [16, 8] += left [16, 16] *
/// right [16, 8], the operands f16 or bf16, two in a word with the lower index in the lower half. Lane i has r = i / 4
/// and c = 2 (i % 4).
///
/// @source PTX ISA, mma.sync.aligned.m16n8k16.row.col: these are its registers
struct TileLeft {
  std::uint32_t words[4];  ///< rows r, r + 8, r, r + 8; columns c and c + 1 in the first two, c + 8 and c + 9 after
};
struct TileRight {
  std::uint32_t words[2];  ///< column r; rows c and c + 1, then c + 8 and c + 9
};
struct TileSums {
  float values[4];  ///< row r, columns c and c + 1; then row r + 8
};

}  // namespace krul::cuda
