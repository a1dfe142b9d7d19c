#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "krul/cuda/kernel_block.hpp"
#include "krul/cuda/kernels/row_places.hpp"

namespace krul::cuda {

/// Rows of one layer, in pages and one after another.
struct PagedRows {
  RowPlaces places;
  std::byte *keys, *values;  ///< page 0 of each
  std::byte* packed;         ///< [K and V][rows, row_bytes]
  std::uint32_t rows, row_bytes;

  /// How many bytes a thread moves at once: as many as lie together and are aligned everywhere.
  [[nodiscard]] KRUL_DEVICE unsigned unit() const {
    const std::uintptr_t all = reinterpret_cast<std::uintptr_t>(keys) | reinterpret_cast<std::uintptr_t>(values) |
                               reinterpret_cast<std::uintptr_t>(packed) | places.page_stride | places.token_stride |
                               places.run_stride | places.run_bytes | row_bytes;
    return all % 16 == 0 ? 16 : all % 4 == 0 ? 4 : 2;
  }
};

namespace detail {

/// Calls visit(paged, packed) for each unit of bytes: a warp a row of K or of V.
template <unsigned unit, KernelBlock Block, class Visit>
KRUL_DEVICE void for_units(Block& block, const PagedRows& rows, Visit&& visit) {
  const unsigned warps = block.threads() / warp_lanes;
  for (std::uint32_t at = block.index() * warps + warp_of(block); at < 2 * rows.rows; at += block.blocks() * warps) {
    const bool key = at < rows.rows;
    std::byte* const paged = (key ? rows.keys : rows.values) + rows.places.row(key ? at : at - rows.rows);
    std::byte* const packed = rows.packed + std::size_t{at} * rows.row_bytes;
    for (std::uint32_t byte = lane_of(block) * unit; byte < rows.row_bytes; byte += warp_lanes * unit)
      visit(paged + rows.places.in_row(byte), packed + byte);
  }
}

template <unsigned unit>
KRUL_DEVICE void move_unit(std::byte* to, const std::byte* from) {
  std::memcpy(__builtin_assume_aligned(to, unit), __builtin_assume_aligned(from, unit), unit);
}

}  // namespace detail

/// Rows that lie one after another to their places in pages.
/// @complexity one pass over what is read and written, like GatherRows
struct ScatterRows {
  PagedRows rows;

  template <KernelBlock Block>
  KRUL_DEVICE void operator()(Block& block) const {
    switch (rows.unit()) {
      case 16:
        return scatter<16>(block);
      case 4:
        return scatter<4>(block);
      default:
        return scatter<2>(block);
    }
  }

 private:
  template <unsigned unit, KernelBlock Block>
  KRUL_DEVICE void scatter(Block& block) const {
    detail::for_units<unit>(block, rows,
                            [](std::byte* paged, std::byte* packed) { detail::move_unit<unit>(paged, packed); });
  }
};

/// The inverse.
struct GatherRows {
  PagedRows rows;

  template <KernelBlock Block>
  KRUL_DEVICE void operator()(Block& block) const {
    switch (rows.unit()) {
      case 16:
        return gather<16>(block);
      case 4:
        return gather<4>(block);
      default:
        return gather<2>(block);
    }
  }

 private:
  template <unsigned unit, KernelBlock Block>
  KRUL_DEVICE void gather(Block& block) const {
    detail::for_units<unit>(block, rows,
                            [](std::byte* paged, std::byte* packed) { detail::move_unit<unit>(packed, paged); });
  }
};

}  // namespace krul::cuda
