// Compiled for AVX-512 whatever the rest of the build is compiled for.
#if defined(__AVX512F__)
#include "attention_kernels_generic.hpp"
#include "layer_kernels_generic.hpp"

namespace krul::detail {

const AttentionKernels* avx512_attention_kernels() {
  static constexpr AttentionKernels kernels = generic_attention<F32Units>("avx512");
  return &kernels;
}

const LayerKernels* avx512_layer_kernels() {
  static constexpr LayerKernels kernels = generic_layer("avx512");
  return &kernels;
}

}  // namespace krul::detail
#else
#include "attention_kernels.hpp"
#include "layer_kernels.hpp"

namespace krul::detail {

const AttentionKernels* avx512_attention_kernels() {
  return nullptr;
}

const LayerKernels* avx512_layer_kernels() {
  return nullptr;
}

}  // namespace krul::detail
#endif
