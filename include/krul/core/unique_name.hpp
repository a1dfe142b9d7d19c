#pragma once

#include <random>
#include <string>
#include <string_view>

namespace krul {

/// 32 hexadecimal digits that nobody else has.
[[nodiscard]] inline std::string unique_name() {
  std::random_device system;
  std::string name;
  while (name.size() < 32) {
    constexpr std::string_view digits = "0123456789abcdef";
    for (unsigned bits = system(), digit = 0; digit < 8; ++digit, bits >>= 4) name += digits[bits & 15U];
  }
  return name;
}

}  // namespace krul
