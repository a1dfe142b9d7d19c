#include "krul/core/checksum.hpp"

// GCC 12 takes the deliberately undefined registers of its own AVX-512 header for a mistake (its bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#define XXH_INLINE_ALL  // compiled for this target's processor, and nothing to link
#include <xxhash.h>

#include <algorithm>

namespace krul {

Checksum checksum(std::span<const std::byte> bytes) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes.data(), bytes.size()));
  Checksum hash;
  std::copy(std::begin(canonical.digest), std::end(canonical.digest), hash.begin());
  return hash;
}

std::string hexadecimal(const Checksum& hash) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string text;
  for (const std::uint8_t byte : hash) {
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}

Status verify(std::span<const std::byte> bytes, const Checksum& expected, std::string_view what) {
  if (checksum(bytes) == expected) return {};
  return fail(ErrorCode::corrupt, std::string(what) +
                                      " is damaged: its bytes are not those that were written; "
                                      "recompute it or restore it from a backup");
}

}  // namespace krul
