#pragma once

#include <cstddef>
#include <cstdint>

#include "krul/cuda/kernel_block.hpp"
#include "krul/cuda/kernels/expand_rows.hpp"
#include "krul/cuda/kernels/row_places.hpp"

namespace krul::cuda {

/// Stored rows of a pair of layers, already expanded, to the rows of either layer: each is some stored row times the
/// scale of the part, as SlerpMerge::decode does it. Rows that are to stay as they are have scales of 1, which change
/// no value that is finite.
/// @complexity one pass over what is read and written; a warp a head
struct PlaceMergedRows {
  ElementType type;                ///< of the cache
  const void* stored;              ///< [S, G, D] of `type`
  const std::uint32_t* sources;    ///< [T, 2] which stored row is the shallower layer's, and which the deeper one's
  const std::uint16_t* scales;     ///< [T, parts, 2] f16
  std::uint32_t parts;             ///< 1, or G
  std::uint32_t rows, heads, dim;  ///< T, G, D
  std::byte* to[2];                ///< where the cache's keys, or values, of the layers begin
  RowPlaces places;                ///< of the chunk's rows there
  std::uint32_t* not_finite;       ///< becomes 1 if a value is not finite once it is stored

  template <KernelBlock Block>
  KRUL_DEVICE void operator()(Block& block) const {
    bool finite = true;
    detail::for_heads(block, 2 * rows * heads, [&](std::uint32_t item) {
      const std::uint32_t head = item % heads, row = item / heads, token = row / 2, layer = row % 2;
      const std::uint32_t part = parts == 1 ? 0 : head;
      const float scale = float_of_f16(scales[(std::size_t{token} * parts + part) * 2 + layer]);
      const std::size_t from = (std::size_t{sources[row]} * heads + head) * dim;
      std::byte* const to_row = to[layer] + places.row(token);
      for (std::uint32_t i = lane_of(block); i < dim; i += warp_lanes) {
        const auto byte = (head * dim + i) * static_cast<std::uint32_t>(size_of(type));
        std::byte* const at = to_row + places.in_row(byte);
        store_value(type, load_value(type, stored, from + i) * scale, at, 0);
        finite = finite && is_finite(load_value(type, at, 0));
      }
    });
    if (!finite) *not_finite = 1;  // whoever finds it writes the same
  }
};

}  // namespace krul::cuda
