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
  /// PTX promises no order and no rounding of the sums: terms may be cut off below 2^-23 of the largest.
  /// @source Fasi et al., Numerical behavior of NVIDIA tensor cores, 2021 (second-hand; not measured here)
  __device__ void add_tile_product(ElementType half, const TileLeft& left, const TileRight& right,
                                   TileSums& sums) const {
#define KRUL_TILE_PRODUCT(type)                                                                                       \
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type                                                 \
               ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"                                           \
               : "+f"(sums.values[0]), "+f"(sums.values[1]), "+f"(sums.values[2]), "+f"(sums.values[3])               \
               : "r"(left.words[0]), "r"(left.words[1]), "r"(left.words[2]), "r"(left.words[3]), "r"(right.words[0]), \
                 "r"(right.words[1]))
    if (half == ElementType::f16)
      KRUL_TILE_PRODUCT("f16");
    else
      KRUL_TILE_PRODUCT("bf16");
#undef KRUL_TILE_PRODUCT
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
