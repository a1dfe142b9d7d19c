#pragma once

#include <cstring>

#include "fuzz_target.hpp"
#include "krul/core/checksum.hpp"

namespace krul::fuzz {

// A checksum keeps a fuzzer out, so inputs are also tried with checksums that were made to fit.

/// The checksum at the end of what is no shorter than one.
inline void seal_end(std::span<std::byte> bytes) {
  const Checksum hash = checksum(bytes.first(bytes.size() - sizeof(Checksum)));
  std::memcpy(bytes.data() + bytes.size() - hash.size(), hash.data(), hash.size());
}

/// A manifest's length and checksum. What is too short for them stays as it is.
inline void seal_manifest(std::span<std::byte> bytes) {
  constexpr std::size_t length_at = 12, header = 20;
  if (bytes.size() < header + sizeof(Checksum)) return;
  for (std::size_t i = 0; i < 8; ++i)
    bytes[length_at + i] = static_cast<std::byte>(std::uint64_t{bytes.size()} >> (8 * i));
  seal_end(bytes);
}

}  // namespace krul::fuzz
