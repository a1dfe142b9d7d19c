#include "krul/model/any_kernels.hpp"

namespace krul {

Result<AnyKernels> AnyKernels::choose(KernelChoice choice, std::optional<Precision> precision) {
  if (choice != KernelChoice::eigen) {
    // Without a wish bf16 is tried first: where it exists it is about twice as fast.
    auto kernels = OnednnKernels::make(precision.value_or(Precision::bf16));
    if (!kernels && !precision) kernels = OnednnKernels::make(Precision::f32);
    if (kernels) return AnyKernels(std::move(*kernels));
    if (choice == KernelChoice::onednn || precision == Precision::bf16) return propagate(kernels);
  }
  if (precision == Precision::bf16)
    return fail(ErrorCode::unsupported, "the eigen kernels have no bf16: use precision f32 or the onednn kernels");
  return AnyKernels(EigenKernels{});
}

}  // namespace krul
