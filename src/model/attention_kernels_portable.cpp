#include "attention_kernels_generic.hpp"

namespace krul::detail {

const AttentionKernels* portable_attention_kernels() {
  static constexpr AttentionKernels kernels = generic_attention<F32Units>("portable");
  return &kernels;
}

}  // namespace krul::detail
