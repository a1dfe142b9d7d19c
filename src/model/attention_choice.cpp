#include "attention_kernels.hpp"
#include "krul/model/attention.hpp"

namespace krul {

ElementType attention_arithmetic(Precision precision, const Processor& processor) {
  return precision != Precision::f32 && processor.prefers_bf16() && detail::avx512_bf16_attention_kernels() != nullptr
             ? ElementType::bf16
             : ElementType::f32;
}

const detail::AttentionKernels& BlockAttention::choose(Precision precision, const Processor& processor) {
  const detail::AttentionKernels* found = nullptr;
  if (attention_arithmetic(precision, processor) == ElementType::bf16) found = detail::avx512_bf16_attention_kernels();
  if (found == nullptr && processor.avx512) found = detail::avx512_attention_kernels();
  if (found == nullptr && processor.avx2) found = detail::avx2_attention_kernels();
  return found != nullptr ? *found : *detail::portable_attention_kernels();
}

std::string BlockAttention::instructions() const {
  return kernels_->instructions;
}

ElementType BlockAttention::arithmetic() const noexcept {
  return kernels_->arithmetic;
}

}  // namespace krul
