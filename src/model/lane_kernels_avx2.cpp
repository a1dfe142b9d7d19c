// Compiled for AVX2, FMA and F16C whatever the rest of the build is compiled for.
#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "attention_kernels_generic.hpp"
#include "layer_kernels_generic.hpp"

namespace krul::detail {

const AttentionKernels* avx2_attention_kernels() {
  static constexpr AttentionKernels kernels = generic_attention<F32Units>("avx2");
  return &kernels;
}

const LayerKernels* avx2_layer_kernels() {
  static constexpr LayerKernels kernels = generic_layer("avx2");
  return &kernels;
}

}  // namespace krul::detail
#else
#include "attention_kernels.hpp"
#include "layer_kernels.hpp"

namespace krul::detail {

const AttentionKernels* avx2_attention_kernels() {
  return nullptr;
}

const LayerKernels* avx2_layer_kernels() {
  return nullptr;
}

}  // namespace krul::detail
#endif
