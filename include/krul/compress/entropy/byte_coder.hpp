#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "krul/core/error.hpp"

namespace krul {

/// Codes bytes of one kind (such as the exponents of a column of rows) by how often each value occurs, counted first.
///
/// Layout: one byte, 0 for bytes as they are, which then follow; or the number of values that occur (256 as 255 with
/// all listed is stored raw), these values from the most frequent down, a SymbolTable of their ranks, and the ranks as
/// a SymbolBlock. Ranks from 63 on are escapes, so a source with more than about 100 even values is kept raw.
///
/// @return never more than bytes.size() + 1 bytes
[[nodiscard]] std::vector<std::byte> encode_bytes(std::span<const std::byte> bytes);

/// @param out  [as many as were encoded]
/// @return corrupt or truncated if no encoder wrote this; then `out` holds no meaning
Status decode_bytes(std::span<const std::byte> coded, std::span<std::byte> out);

}  // namespace krul
