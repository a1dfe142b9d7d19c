#include "micro_kernels_generic.hpp"

namespace krul::detail {

const MicroKernels* portable_micro_kernels(Precision precision) {
  static constexpr MicroKernels f32 = generic_f32("portable"), bf16 = generic_bf16("portable"),
                                int8 = generic_int8("portable");
  return precision == Precision::f32 ? &f32 : precision == Precision::bf16 ? &bf16 : &int8;
}

}  // namespace krul::detail
