#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "krul/core/error.hpp"

namespace krul::cuda {

/// A device of this machine.
struct DeviceInfo {
  std::string name;
  int major = 0, minor = 0;               ///< of its architecture: sm_90 is 9 and 0
  std::size_t bytes = 0, free_bytes = 0;  ///< of its memory
};

/// All CUDA devices, by their index.
/// @return backend, naming the call, where there is none or the driver does not answer; unsupported, naming the CMake
///         option, if krul was built without CUDA
[[nodiscard]] Result<std::vector<DeviceInfo>> devices();

}  // namespace krul::cuda
