#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "krul/cuda/paged_kv_cache.hpp"

namespace krul::cuda::test {

/// An engine's memory: pages of a device, and krul's view of them.
template <DeviceApi Device>
struct EnginePages {
  struct Shape {
    std::size_t page_tokens = 16, pages = 0;
    PageOrder order = PageOrder::nhd;
    bool combined = false;  ///< [L, pages, 2, ...]; else [L, 2, pages, ...]
  };

  typename Device::Memory memory;
  PagedLayout layout;

  EnginePages(Device& device, const Geometry& geometry, const Shape& shape)
      : memory(or_throw(device.allocate(bytes(geometry, shape)))),
        layout{.page_tokens = shape.page_tokens, .pages = shape.pages, .order = shape.order} {
    const std::size_t page = layout.page_bytes(geometry);
    layout.page_stride = shape.combined ? 2 * page : page;
    for (std::size_t layer = 0; layer < geometry.layers; ++layer) {
      layout.keys.push_back(memory.data() + 2 * layer * shape.pages * page);
      layout.values.push_back(layout.keys.back() + (shape.combined ? page : shape.pages * page));
    }
  }
  [[nodiscard]] static std::size_t bytes(const Geometry& geometry, const Shape& shape) {
    return 2 * geometry.layers * shape.pages * shape.page_tokens * geometry.kv_row_bytes();
  }
  /// A conversation with every other page, from the last.
  /// @param rows  of a piece of a transfer
  [[nodiscard]] PagedKvCache<Device> cache(Device& device, const Geometry& geometry,
                                           std::shared_ptr<StagingRing<Device>> ring, std::size_t rows) const {
    std::vector<std::int32_t> numbers;
    for (auto page = static_cast<std::int32_t>(layout.pages) - 1; page >= 0; page -= 2) numbers.push_back(page);
    PagedKvCache<Device> cache(std::make_shared<PagedPool<Device>>(device, geometry, layout, std::move(ring),
                                                                   2 * rows * geometry.kv_row_bytes()),
                               numbers.size());
    cache.append_pages(numbers);
    return cache;
  }
};

}  // namespace krul::cuda::test
