#pragma once

#include <array>
#include <cstddef>

#include "krul/cuda/device_api.hpp"

namespace krul::cuda {

/// A kernel, and the memory that it touches, as whoever launches it knows.
template <class Kernel, std::size_t N>
struct Touching {
  Kernel kernel;
  std::array<TouchedBytes, N> ranges;

  template <KernelBlock Block>
  KRUL_DEVICE void operator()(Block& block) const {
    kernel(block);
  }
  template <class Visit>
  void touched(Visit&& visit) const {
    for (const TouchedBytes& range : ranges) visit(range);
  }
};
template <class Kernel, std::size_t N>
Touching(Kernel, std::array<TouchedBytes, N>) -> Touching<Kernel, N>;

}  // namespace krul::cuda
