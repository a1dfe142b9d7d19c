// Compiled for AVX2 and FMA whatever the rest of the build is compiled for.
#if defined(__AVX2__) && defined(__FMA__)
#include "micro_kernels_generic.hpp"

namespace krul::detail {

const MicroKernels* avx2_micro_kernels(Precision precision) {
  static constexpr MicroKernels f32 = generic_f32("avx2"), bf16 = generic_bf16("avx2"), int8 = generic_int8("avx2");
  return precision == Precision::f32 ? &f32 : precision == Precision::bf16 ? &bf16 : &int8;
}

}  // namespace krul::detail
#else
#include "micro_kernels.hpp"

namespace krul::detail {

const MicroKernels* avx2_micro_kernels(Precision) {
  return nullptr;
}

}  // namespace krul::detail
#endif
