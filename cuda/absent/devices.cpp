// Where no CUDA toolkit was found, or none was wanted.
#include "krul/cuda/devices.hpp"

namespace krul::cuda {

Result<std::vector<DeviceInfo>> devices() {
  return fail(ErrorCode::unsupported,
              "krul was built without CUDA: configure it with -DKRUL_WITH_CUDA=ON where a CUDA toolkit 12 or newer is "
              "installed, or run the model on the processor");
}

}  // namespace krul::cuda
