#include "krul/cuda/cuda_call.cuh"
#include "krul/cuda/devices.hpp"

namespace krul::cuda {

Result<std::vector<DeviceInfo>> devices() {
  int count = 0;
  if (auto status = checked(cudaGetDeviceCount(&count), "cudaGetDeviceCount"); !status) return propagate(status);
  int current = 0;
  if (auto status = checked(cudaGetDevice(&current), "cudaGetDevice"); !status) return propagate(status);
  std::vector<DeviceInfo> found;
  for (int index = 0; index < count; ++index) {
    cudaDeviceProp properties;
    if (auto status = checked(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties"); !status)
      return propagate(status);
    DeviceInfo& device =
        found.emplace_back(DeviceInfo{.name = properties.name, .major = properties.major, .minor = properties.minor});
    if (auto status = checked(cudaSetDevice(index), "cudaSetDevice"); !status) return propagate(status);
    if (auto status = checked(cudaMemGetInfo(&device.free_bytes, &device.bytes), "cudaMemGetInfo"); !status)
      return propagate(status);
  }
  if (auto status = checked(cudaSetDevice(current), "cudaSetDevice"); !status) return propagate(status);
  return found;
}

}  // namespace krul::cuda
