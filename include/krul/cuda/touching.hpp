#pragma once

#include <span>

#include "krul/cuda/device_api.hpp"

namespace krul::cuda {

/// A kernel, and the memory that it touches, as whoever launches it knows.
template <class Kernel>
struct Touching {
  Kernel kernel;
  std::span<const TouchedBytes> ranges;  ///< of the host: until it is launched

  template <KernelBlock Block>
  KRUL_DEVICE void operator()(Block& block) const {
    kernel(block);
  }
  template <class Visit>
  void touched(Visit&& visit) const {
    for (const TouchedBytes& range : ranges) visit(range);
  }
};
template <class Kernel>
Touching(Kernel, std::span<const TouchedBytes>) -> Touching<Kernel>;

}  // namespace krul::cuda
