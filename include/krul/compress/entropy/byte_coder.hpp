#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "krul/core/error.hpp"

namespace krul {

/// Codes bytes of one kind (such as the exponents of a column of rows) by how often each value occurs, counted first.
///
/// Layout: one byte, 0 for bytes as they are, which follow, or 1; then one byte with the number of values that occur,
/// less one; these values from the most frequent down; a SymbolTable of their ranks; and the ranks, less 31, as a
/// SymbolBlock of columns of 256 (of all, if they are fewer), filled up with rank 0. Ranks from 63 on are escapes, so
/// a source of many equally frequent values is kept as it is.
///
/// @return never more than bytes.size() + 1 bytes
[[nodiscard]] std::vector<std::byte> encode_bytes(std::span<const std::byte> bytes);

/// @param out  [as many as were encoded]
/// @return corrupt or truncated if no encoder wrote this; then `out` holds no meaning
[[nodiscard]] Status decode_bytes(std::span<const std::byte> coded, std::span<std::byte> out);

}  // namespace krul
