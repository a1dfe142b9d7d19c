#include "attention_kernels.hpp"
#include "krul/model/attention.hpp"

namespace krul {

ElementType attention_arithmetic(Precision precision, const Processor& processor) {
  return precision != Precision::f32 && processor.prefers_bf16() ? ElementType::bf16 : ElementType::f32;
}

const detail::AttentionKernels& BlockAttention::choose([[maybe_unused]] Precision precision,
                                                       const Processor& processor) {
  using enum InstructionLevel;
#if defined(__x86_64__)
  if (attention_arithmetic(precision, processor) == ElementType::bf16) return *detail::attention_kernels<avx512_bf16>();
#endif
  return *at_level<portable, avx2, avx512, neon>(
      processor.level(), []<InstructionLevel level>() { return detail::attention_kernels<level>(); });
}

InstructionLevel BlockAttention::level() const noexcept {
  return kernels_->level;
}

ElementType BlockAttention::arithmetic() const noexcept {
  return kernels_->arithmetic;
}

}  // namespace krul
