// What brings rows back on a CUDA device, compiled here so that the compiler has seen all of it.
#include "krul/cuda/cuda_device.cuh"
#include "krul/cuda/device_decoder.hpp"
#include "krul/cuda/device_kv_cache.hpp"
#include "krul/cuda/joint_decoder.hpp"
#include "krul/cuda/paged_kv_cache.hpp"

template class krul::cuda::StagingRing<krul::cuda::CudaDevice>;
template class krul::cuda::DeviceKvCache<krul::cuda::CudaDevice>;
template class krul::cuda::PagedPool<krul::cuda::CudaDevice>;
template class krul::cuda::PagedKvCache<krul::cuda::CudaDevice>;
template class krul::cuda::DeviceProfile<krul::cuda::CudaDevice>;
template class krul::cuda::JointDecoder<krul::cuda::CudaDevice>;
template class krul::cuda::RowDecoder<krul::cuda::CudaDevice>;
template class krul::cuda::PairDecoder<krul::cuda::CudaDevice>;
template class krul::cuda::DeviceDecoder<krul::cuda::CudaDevice>;

namespace krul::cuda {

template Status JointDecoder<CudaDevice>::decode(std::size_t, std::span<const std::byte>, TokenRange,
                                                 std::span<const float>, DeviceKvCache<CudaDevice>&);
template Status JointDecoder<CudaDevice>::decode(std::size_t, std::span<const std::byte>, TokenRange,
                                                 std::span<const float>, PagedKvCache<CudaDevice>&);
template Status PairDecoder<CudaDevice>::decode(std::uint8_t, const Layers&, std::span<const std::byte>, TokenRange,
                                                DeviceKvCache<CudaDevice>&);
template Status PairDecoder<CudaDevice>::decode(std::uint8_t, const Layers&, std::span<const std::byte>, TokenRange,
                                                PagedKvCache<CudaDevice>&);

}  // namespace krul::cuda
