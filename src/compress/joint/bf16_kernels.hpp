#pragma once

#include "krul/compress/joint/bf16_product.hpp"

namespace krul::detail {

/// out [padded rows, count * 16] = rows times the first `count` panels.
void multiply_portable(const Bf16Rows& rows, const Bf16Panels& panels, std::size_t count, float* out);
void multiply_avx512(const Bf16Rows& rows, const Bf16Panels& panels, std::size_t count, float* out);

}  // namespace krul::detail
