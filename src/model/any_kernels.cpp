#include "krul/model/any_kernels.hpp"

namespace krul {
Result<AnyKernels> AnyKernels::choose(KernelChoice choice, std::optional<Precision> precision) {
  if (choice == KernelChoice::eigen) {
    if (precision.value_or(Precision::f32) != Precision::f32)
      return fail(ErrorCode::unsupported,
                  "the eigen kernels have f32 alone: use precision f32, or the onednn or krul kernels");
    return AnyKernels(EigenKernels{});
  }
  if (choice == KernelChoice::onednn) {
    // If none is asked for, bf16 is tried first: where it exists it is about twice as fast.
    auto kernels = OnednnKernels::make(precision.value_or(Precision::bf16));
    if (!kernels && !precision) kernels = OnednnKernels::make(Precision::f32);
    if (!kernels) return propagate(kernels);
    return AnyKernels(std::move(*kernels));
  }
  return AnyKernels(KrulKernels(precision.value_or(KrulKernels::fastest())));
}

}  // namespace krul
