#pragma once

#include <cstddef>
#include <cstdint>

#include "krul/cuda/kernel_block.hpp"

namespace krul::cuda {

/// Where one thread of a device runs. Grids and blocks have one dimension.
class DeviceBlock {
 public:
  [[nodiscard]] __device__ unsigned index() const { return blockIdx.x; }
  [[nodiscard]] __device__ unsigned blocks() const { return gridDim.x; }
  [[nodiscard]] __device__ unsigned thread() const { return threadIdx.x; }
  [[nodiscard]] __device__ unsigned threads() const { return blockDim.x; }
  [[nodiscard]] __device__ std::byte* shared() const {
    extern __shared__ uint4 krul_shared[];
    return reinterpret_cast<std::byte*>(krul_shared);
  }
  __device__ void sync() const { __syncthreads(); }
  [[nodiscard]] __device__ std::uint32_t ballot(bool flag) const { return __ballot_sync(0xffffffffU, flag); }
  [[nodiscard]] __device__ std::uint32_t shuffle(std::uint32_t value, unsigned lane) const {
    return __shfl_sync(0xffffffffU, value, static_cast<int>(lane));
  }
};
static_assert(KernelBlock<DeviceBlock>);

/// A kernel on a device: `run_kernel<<<blocks, threads, shared_bytes, stream>>>(kernel)`.
template <class Kernel>
__global__ void run_kernel(const Kernel kernel) {
  DeviceBlock block;
  kernel(block);
}

}  // namespace krul::cuda
