#include "krul/model/any_kernels.hpp"

namespace krul {
namespace {

/// The fastest that the processor has instructions for.
Precision fastest_of_krul() {
  for (const Precision precision : {Precision::int8, Precision::bf16})
    if (KrulKernels::accelerates(precision)) return precision;
  return Precision::f32;
}

}  // namespace

Result<AnyKernels> AnyKernels::choose(KernelChoice choice, std::optional<Precision> precision) {
  if (choice == KernelChoice::eigen) {
    if (precision.value_or(Precision::f32) != Precision::f32)
      return fail(ErrorCode::unsupported,
                  "the eigen kernels have f32 alone: use precision f32, or the onednn or krul kernels");
    return AnyKernels(EigenKernels{});
  }
  if (choice == KernelChoice::onednn) {
    // Without a wish bf16 is tried first: where it exists it is about twice as fast.
    auto kernels = OnednnKernels::make(precision.value_or(Precision::bf16));
    if (!kernels && !precision) kernels = OnednnKernels::make(Precision::f32);
    if (!kernels) return propagate(kernels);
    return AnyKernels(std::move(*kernels));
  }
  auto kernels = KrulKernels::make(precision.value_or(fastest_of_krul()));
  if (!kernels) return propagate(kernels);
  return AnyKernels(*kernels);
}

}  // namespace krul
