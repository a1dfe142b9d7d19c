#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "krul/store/encryption_keys.hpp"

namespace krul::test {

/// A key whose bytes are all the same.
inline EncryptionKey key_of_all(std::uint8_t value) {
  std::array<std::byte, EncryptionKey::size> bytes{};
  bytes.fill(std::byte{value});
  return EncryptionKey(bytes);
}

}  // namespace krul::test
