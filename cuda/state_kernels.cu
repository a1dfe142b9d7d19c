// The kernels that bring stored rows back, for devices.
#include "krul/cuda/device_block.cuh"
#include "krul/cuda/kernels/decode_symbols.hpp"
#include "krul/cuda/kernels/expand_rows.hpp"
#include "krul/cuda/kernels/joint_rows.hpp"
#include "krul/cuda/kernels/merged_rows.hpp"
#include "krul/cuda/kernels/paged_rows.hpp"

namespace krul::cuda {

template __global__ void run_kernel<DecodeSymbols>(DecodeSymbols);
template __global__ void run_kernel<ExpandFloat>(ExpandFloat);
template __global__ void run_kernel<ExpandInt8>(ExpandInt8);
template __global__ void run_kernel<ExpandInt4>(ExpandInt4);
template __global__ void run_kernel<FindNotFinite>(FindNotFinite);
template __global__ void run_kernel<PlaceMergedRows>(PlaceMergedRows);
template __global__ void run_kernel<DequantiseRows>(DequantiseRows);
template __global__ void run_kernel<MultiplyRows>(MultiplyRows);
template __global__ void run_kernel<RoundRows>(RoundRows);
template __global__ void run_kernel<SynthesiseRows>(SynthesiseRows);
template __global__ void run_kernel<StoreRows>(StoreRows);
template __global__ void run_kernel<ScatterRows>(ScatterRows);
template __global__ void run_kernel<GatherRows>(GatherRows);

}  // namespace krul::cuda
