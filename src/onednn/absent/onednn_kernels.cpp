// Stands in for the real kernels where oneDNN was not found: make refuses, so nothing else can be reached.
#include "krul/model/onednn_kernels.hpp"

#include <utility>

namespace krul {

struct OnednnKernels::Primitives {};
struct OnednnKernels::Shared {};
struct OnednnKernels::Scratch::State {};

OnednnKernels::Scratch::Scratch() = default;
OnednnKernels::Scratch::Scratch(Scratch&&) noexcept = default;
OnednnKernels::Scratch& OnednnKernels::Scratch::operator=(Scratch&&) noexcept = default;
OnednnKernels::Scratch::~Scratch() = default;

Result<OnednnKernels> OnednnKernels::make(Precision) {
  return fail(ErrorCode::unsupported,
              "this build has no oneDNN: install it and configure with KRUL_WITH_ONEDNN, or "
              "use the eigen kernels with precision f32");
}

OnednnKernels::Scratch OnednnKernels::make_scratch() const {
  return {};
}
std::size_t OnednnKernels::packed_bytes(const MatrixShape&) const {
  return 0;
}
OnednnKernels::Packed OnednnKernels::make_packed(const MatrixShape&, std::span<std::byte>) const {
  return {};
}
void OnednnKernels::pack(Packed&, std::size_t, const WeightRows&, Scratch&) const {}
void OnednnKernels::prepare(const Packed&, std::span<const float>, std::size_t, std::span<std::byte>) const {}
void OnednnKernels::multiply(const Packed&, PanelRange, std::span<const std::byte>, std::span<float>, Scratch&) const {}

}  // namespace krul
