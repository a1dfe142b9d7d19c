#pragma once

#include "krul/compress/joint/int8_panels.hpp"

namespace krul::detail {

/// out [padded rows, count * 16] = rows times the first `count` panels.
void multiply_portable(const Int8Rows& rows, const Int8Panels& panels, std::size_t count, float* out);
void multiply_vnni(const Int8Rows& rows, const Int8Panels& panels, std::size_t count, float* out);

}  // namespace krul::detail
