#pragma once

#include <cstddef>
#include <span>

namespace krul::detail {

/// Sets the bytes to 0, also where the compiler sees that nobody reads them again.
void wipe(std::span<std::byte> bytes) noexcept;

}  // namespace krul::detail
