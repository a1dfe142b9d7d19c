#pragma once

#include <cstddef>
#include <span>

namespace krul {

/// Rows of K and of V of one layer, read only: each [T, G, D], row-major, in the cache's element type.
struct KvRows {
  std::span<const std::byte> keys;
  std::span<const std::byte> values;
};

/// The same, to be written.
struct MutableKvRows {
  std::span<std::byte> keys;
  std::span<std::byte> values;
  operator KvRows() const noexcept { return {keys, values}; }
};

}  // namespace krul
