#pragma once

#include <cstddef>
#include <memory>
#include <utility>

#include "krul/cuda/paged_layout.hpp"
#include "krul/cuda/staging_ring.hpp"

namespace krul::cuda {

/// An engine's pages, and room of the device in which rows lie one after another on their way from and to them. All
/// conversations of one thread share it: the ring's stream puts in order who uses the room.
template <DeviceApi Device>
class PagedPool {
 public:
  /// @param device      kept by reference
  /// @param layout      of memory that stays the engine's, and outlives this
  /// @param room_bytes  what longer transfers are cut into
  /// @throws ResultError if the device has no memory for the room; PreconditionError if the layout cannot hold rows of
  ///         this geometry, or the room not one of them
  PagedPool(Device& device, const Geometry& geometry, PagedLayout layout, std::shared_ptr<StagingRing<Device>> ring,
            std::size_t room_bytes = std::size_t{8} << 20)
      : device_(&device),
        geometry_(geometry),
        layout_(std::move(layout)),
        ring_(std::move(ring)),
        room_rows_(room_bytes / (2 * geometry.kv_row_bytes())),
        room_(or_throw(device.allocate(room_bytes))) {
    layout_.check(geometry_);
    expects(room_rows_ > 0, "PagedPool: there is no room for a row");
  }

  [[nodiscard]] Device& device() const noexcept { return *device_; }
  [[nodiscard]] const Geometry& geometry() const noexcept { return geometry_; }
  [[nodiscard]] const PagedLayout& layout() const noexcept { return layout_; }
  [[nodiscard]] StagingRing<Device>& ring() const noexcept { return *ring_; }
  /// [K and V][rows, G, D] for up to room_rows() rows.
  [[nodiscard]] std::byte* room() const noexcept { return room_.data(); }
  [[nodiscard]] std::size_t room_rows() const noexcept { return room_rows_; }

 private:
  Device* device_;
  Geometry geometry_;
  PagedLayout layout_;
  std::shared_ptr<StagingRing<Device>> ring_;
  std::size_t room_rows_;
  typename Device::Memory room_;
};

}  // namespace krul::cuda
