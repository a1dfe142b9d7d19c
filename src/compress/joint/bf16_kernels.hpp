#pragma once

#include "krul/compress/joint/bf16_product.hpp"

namespace krul::detail {

/// out [padded rows, panels * 16] = rows * panels.
void multiply_portable(const Bf16Rows& rows, const Bf16Panels& panels, float* out);
void multiply_avx512(const Bf16Rows& rows, const Bf16Panels& panels, float* out);

}  // namespace krul::detail
