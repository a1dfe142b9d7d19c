#pragma once

#include <cstddef>
#include <span>

#include "krul/core/error.hpp"
#include "krul/model/gguf_type.hpp"

namespace krul {

/// Turns coded blocks into floats. Each value is the exact value of the code, rounded once.
/// Fails with invalid_argument if `blocks` is not exactly what `values` takes, unsupported if `type` is no enumerator.
/// @param blocks  [values.size() / block_values(type)] blocks of block_bytes(type) bytes, any alignment
/// @param values  [n], n a multiple of block_values(type)
/// @complexity    O(n); several threads may work on different rows of a tensor
[[nodiscard]] Status dequantize(GgufType type, std::span<const std::byte> blocks, std::span<float> values);

}  // namespace krul
