#include "attention_kernels_generic.hpp"
#include "layer_kernels_generic.hpp"

namespace krul::detail {

const AttentionKernels* portable_attention_kernels() {
  static constexpr AttentionKernels kernels = generic_attention<F32Units>("portable");
  return &kernels;
}

const LayerKernels* portable_layer_kernels() {
  static constexpr LayerKernels kernels = generic_layer("portable");
  return &kernels;
}

}  // namespace krul::detail
