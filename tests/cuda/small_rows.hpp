#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "cuda/ordered_device.hpp"
#include "krul/cuda/staging_ring.hpp"

namespace krul::cuda::test {

/// Some bytes of each row fit a slot, and never all.
[[nodiscard]] inline std::shared_ptr<StagingRing<OrderedDevice>> small_ring(OrderedDevice& device) {
  using Ring = StagingRing<OrderedDevice>;
  return std::make_shared<Ring>(device, device.make_stream().value(), Ring::Size{.slots = 3, .slot_bytes = 48});
}

/// Adds one to every byte of a layer's rows: what a model does to rows, as far as order goes.
struct AddOne {
  std::byte* rows;
  std::uint32_t bytes;

  template <KernelBlock Block>
  KRUL_DEVICE void operator()(Block& block) const {
    for (std::uint32_t i = block.index() * block.threads() + block.thread(); i < bytes;
         i += block.blocks() * block.threads())
      rows[i] = static_cast<std::byte>(static_cast<unsigned>(rows[i]) + 1);
  }
  template <class Visit>
  void touched(Visit&& visit) const {
    visit(TouchedBytes{rows, bytes, true});
  }
};

}  // namespace krul::cuda::test
