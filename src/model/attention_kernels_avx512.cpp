// Compiled for AVX-512 whatever the rest of the build is compiled for.
#if defined(__AVX512F__)
#include "attention_kernels_generic.hpp"

namespace krul::detail {

const AttentionKernels* avx512_attention_kernels() {
  static constexpr AttentionKernels kernels = generic_attention<F32Units>("avx512");
  return &kernels;
}

}  // namespace krul::detail
#else
#include "attention_kernels.hpp"

namespace krul::detail {

const AttentionKernels* avx512_attention_kernels() {
  return nullptr;
}

}  // namespace krul::detail
#endif
