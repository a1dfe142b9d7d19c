#pragma once

#include <cstddef>
#include <cstdint>

#include "krul/core/geometry.hpp"
#include "krul/cuda/kernel_block.hpp"

namespace krul::cuda {

/// Where rows of a conversation lie, in bytes from where the cache's keys, or values, of a layer begin. A cache without
/// pages is one page that never ends.
struct RowPlaces {
  const std::int32_t* pages = nullptr;  ///< [pages of the conversation] their numbers, on the device; null: no pages
  std::uint32_t page_tokens = 0;
  std::uint32_t first = 0;       ///< token of row 0
  std::size_t page_stride = 0;   ///< from a page to the one with the next number
  std::size_t token_stride = 0;  ///< from a token's row to the next one's in the page
  std::uint32_t run_bytes = 0;   ///< so much of a row lies together: all of it, or a head
  std::size_t run_stride = 0;    ///< from a head to the next

  /// Rows one after another.
  [[nodiscard]] static RowPlaces contiguous(const Geometry& geometry) {
    RowPlaces places;
    places.token_stride = geometry.kv_row_bytes();
    places.run_bytes = static_cast<std::uint32_t>(geometry.kv_row_bytes());
    return places;
  }
  [[nodiscard]] RowPlaces from(std::size_t token) const {
    RowPlaces places = *this;
    places.first = static_cast<std::uint32_t>(token);
    return places;
  }

  /// Where a row begins.
  [[nodiscard]] KRUL_DEVICE std::size_t row(std::uint32_t index) const {
    const std::uint32_t token = first + index;
    if (pages == nullptr) return token * token_stride;
    return static_cast<std::size_t>(pages[token / page_tokens]) * page_stride + token % page_tokens * token_stride;
  }
  /// From there to one of its bytes.
  [[nodiscard]] KRUL_DEVICE std::size_t in_row(std::uint32_t byte) const {
    return byte / run_bytes * run_stride + byte % run_bytes;
  }
};

}  // namespace krul::cuda
