#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "krul/core/error.hpp"

namespace krul {

/// An XXH3-128 in its canonical byte order (most significant byte first).
using Checksum = std::array<std::uint8_t, 16>;

/// XXH3-128 with seed 0. Finds accidents, not forgeries: it is not a cryptographic hash.
[[nodiscard]] Checksum checksum(std::span<const std::byte> bytes);

/// 32 hexadecimal digits in lower case.
[[nodiscard]] std::string hexadecimal(const Checksum& hash);

/// corrupt, naming `what`, unless `bytes` have the checksum `expected`.
[[nodiscard]] Status verify(std::span<const std::byte> bytes, const Checksum& expected, std::string_view what);

}  // namespace krul
