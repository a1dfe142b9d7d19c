#pragma once

// Loops in headers that are compiled for AVX2 beside code for any processor, and called where the instruction level
// includes it. Nothing of them leaks into other functions.

#if defined(__x86_64__)
#include "krul/core/processor.hpp"

#define KRUL_HAS_AVX2 1
#define KRUL_AVX2 __attribute__((target("avx2,f16c")))

namespace krul::detail {

[[nodiscard]] inline bool use_avx2() {
  return includes(instruction_level(), InstructionLevel::avx2);
}

}  // namespace krul::detail
#else
#define KRUL_HAS_AVX2 0
#endif
