// The kernels of the model's forward pass, for devices.
#include "krul/cuda/attention_plan.hpp"
#include "krul/cuda/device_block.cuh"
#include "krul/cuda/kernels/add_squared_weights.hpp"

namespace krul::cuda {

#define KRUL_ATTENTION(half, dims)                                                                               \
  template __global__ void run_kernel<AttendRows<ElementType::half, dims>>(AttendRows<ElementType::half, dims>); \
  template __global__ void run_kernel<AttentionWeights<ElementType::half, dims>>(                                \
      AttentionWeights<ElementType::half, dims>)
KRUL_ATTENTION(f16, 64);
KRUL_ATTENTION(f16, 96);
KRUL_ATTENTION(f16, 128);
KRUL_ATTENTION(f16, 256);
KRUL_ATTENTION(bf16, 64);
KRUL_ATTENTION(bf16, 96);
KRUL_ATTENTION(bf16, 128);
KRUL_ATTENTION(bf16, 256);
#undef KRUL_ATTENTION
template __global__ void run_kernel<AttendRowsF32>(AttendRowsF32);
template __global__ void run_kernel<JoinSplits>(JoinSplits);
template __global__ void run_kernel<AttentionWeightsF32>(AttentionWeightsF32);
template __global__ void run_kernel<AddSquaredWeights>(AddSquaredWeights);

}  // namespace krul::cuda
