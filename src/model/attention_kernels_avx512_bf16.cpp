// Compiled for AVX-512 with dot products of bf16 whatever the rest of the build is compiled for.
#if defined(__AVX512F__) && defined(__AVX512BF16__)
#include "attention_kernels_generic.hpp"

namespace krul::detail {

const AttentionKernels* avx512_bf16_attention_kernels() {
  static constexpr AttentionKernels kernels = generic_attention<Bf16Units>("avx512-bf16");
  return &kernels;
}

}  // namespace krul::detail
#else
#include "attention_kernels.hpp"

namespace krul::detail {

const AttentionKernels* avx512_bf16_attention_kernels() {
  return nullptr;
}

}  // namespace krul::detail
#endif
