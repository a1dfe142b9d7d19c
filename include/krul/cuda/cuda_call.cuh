#pragma once

#include <cuda_runtime_api.h>

#include <string>
#include <string_view>

#include "krul/core/error.hpp"

namespace krul::cuda {

/// What a call of the CUDA runtime came to.
/// @return backend, or no_space where memory is missing; names the call
[[nodiscard]] inline Status checked(cudaError_t result, std::string_view call) {
  if (result == cudaSuccess) return {};
  cudaGetLastError();  // it is reported here, and not by a later call
  const std::string what = std::string(call) + " failed: " + cudaGetErrorString(result);
  if (result == cudaErrorMemoryAllocation)
    return fail(ErrorCode::no_space, what + "; use a smaller model or context, or free memory of the device");
  if (result == cudaErrorNoDevice || result == cudaErrorInsufficientDriver)
    return fail(ErrorCode::backend, what + "; look at nvidia-smi, or run the model on the processor");
  return fail(ErrorCode::backend, what + "; nothing that is saved is lost: start the program again");
}

}  // namespace krul::cuda
