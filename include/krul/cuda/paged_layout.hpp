#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/cuda/kernels/row_places.hpp"

namespace krul::cuda {

/// How a page holds rows.
enum class PageOrder : std::uint8_t {
  nhd,  ///< [page_tokens, G, D]
  hnd,  ///< [G, page_tokens, D]
};

/// How an engine's cache lies in its pages, on a device. All conversations share the pages.
///
/// Keys and values each have a beginning and share a stride, so with B = page_tokens * G * D values in bytes:
///
///   keys and values apart, [pages, ...] each                      stride B
///   [2, pages, ...], as FlashAttention's backend of vLLM          stride B, values at keys + pages * B
///   [pages, 2, ...], FlashInfer's combined cache                  stride 2 B, values at keys + B
///   layers side by side in a page, [pages, L, 2, ...]             stride 2 L B, keys of a layer at 2 B layer
///
/// vLLM's older [pages, G, D / x, page_tokens, x] is none of these.
///
/// @source read: FlashInfer's documentation of append_paged_kv_cache (kv_layout NHD and HND, a pair or one tensor);
///         get_kv_cache_shape of vLLM's attention backends
struct PagedLayout {
  std::size_t page_tokens = 16;
  std::size_t pages = 0;  ///< of the engine: numbers below it name pages
  PageOrder order = PageOrder::nhd;
  std::size_t page_stride = 0;                     ///< bytes
  std::vector<std::byte*> keys = {}, values = {};  ///< [L] where page 0 begins

  /// Bytes of K, or of V, of a page and layer.
  [[nodiscard]] std::size_t page_bytes(const Geometry& geometry) const noexcept {
    return page_tokens * geometry.kv_row_bytes();
  }

  /// Places of rows of a conversation.
  /// @param table  its pages' numbers, on the device
  [[nodiscard]] RowPlaces places(const Geometry& geometry, const std::int32_t* table) const {
    const std::size_t row = geometry.kv_row_bytes(), head = row / geometry.kv_heads;
    const bool nhd = order == PageOrder::nhd;
    return {.pages = table,
            .page_tokens = static_cast<std::uint32_t>(page_tokens),
            .first = 0,
            .page_stride = page_stride,
            .token_stride = nhd ? row : head,
            .run_bytes = static_cast<std::uint32_t>(nhd ? row : head),
            .run_stride = nhd ? 0 : page_tokens * head};
  }

  /// @throws PreconditionError if it cannot hold rows of this geometry
  void check(const Geometry& geometry) const {
    const std::size_t value = size_of(geometry.cache_type);
    expects(page_tokens > 0 && pages > 0 && pages <= std::numeric_limits<std::int32_t>::max(), "PagedLayout: no pages");
    expects(page_tokens <= std::numeric_limits<std::uint32_t>::max(), "PagedLayout: pages that long are not known");
    expects(keys.size() == geometry.layers && values.size() == geometry.layers, "PagedLayout: layers are missing");
    expects(page_stride >= page_bytes(geometry) && page_stride % value == 0, "PagedLayout: pages overlap");
    for (std::size_t layer = 0; layer < geometry.layers; ++layer)
      for (const std::byte* const at : {keys[layer], values[layer]})
        expects(reinterpret_cast<std::uintptr_t>(at) % value == 0, "PagedLayout: values are not aligned");
  }
};

}  // namespace krul::cuda
