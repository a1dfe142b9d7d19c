// What brings rows back on a CUDA device, compiled here so that the compiler has seen all of it.
#include "krul/cuda/cuda_device.cuh"
#include "krul/cuda/joint_decoder.hpp"

template class krul::cuda::StagingRing<krul::cuda::CudaDevice>;
template class krul::cuda::DeviceKvCache<krul::cuda::CudaDevice>;
template class krul::cuda::DeviceProfile<krul::cuda::CudaDevice>;
template class krul::cuda::JointDecoder<krul::cuda::CudaDevice>;
