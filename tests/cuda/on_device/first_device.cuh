#pragma once

#include <doctest/doctest.h>

#include <optional>

#include "krul/cuda/cuda_device.cuh"
#include "krul/cuda/devices.hpp"

namespace krul::cuda::test {

/// The first device; none, and a message, where there is none.
inline std::optional<CudaDevice> first_device() {
  const auto found = devices();
  if (found && !found->empty()) return CudaDevice::open(0).value();
  MESSAGE("skipped: " << (found ? "there is no CUDA device" : found.error().message));
  return std::nullopt;
}

}  // namespace krul::cuda::test
