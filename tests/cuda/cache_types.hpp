#pragma once

#include "krul/core/element_type.hpp"

namespace krul::cuda::test {

/// All that a cache may hold.
inline constexpr ElementType cache_types[] = {ElementType::f32, ElementType::f16, ElementType::bf16};

}  // namespace krul::cuda::test
