#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace krul {

// How a stored chunk says what coded it, in one byte. Below 128 it is one of krul's codings: what the layers share in
// the upper four bits, the row codec in the lower four. From 128 on the plan of its save names the coder. Numbers are
// never reused: see docs/format.md.

/// By number. The empty one is not of a chunk coder: projected_coding.
inline constexpr std::array<std::string_view, 6> sharings_by_number = {"separate", "slerp", "reuse",
                                                                       "",         "joint", "packed"};
/// By number, from 1 on.
inline constexpr std::array<std::string_view, 5> row_codecs_by_number = {"exact", "f16", "bf16", "int8", "int4"};

inline constexpr std::uint8_t joint_coding = 0x41;
/// Of chunks that hold what a layer projects to its K and V, in place of them: see hidden_states.hpp.
inline constexpr std::uint8_t projected_coding = 0x32;
/// The first number that a plan may give.
inline constexpr std::uint8_t first_foreign_coding = 128;

/// The number of a sharing, which is one of krul's.
[[nodiscard]] constexpr unsigned sharing_of(std::string_view name) noexcept {
  unsigned number = 0;
  while (number + 1 < sharings_by_number.size() && sharings_by_number[number] != name) ++number;
  return number;
}

/// Whether a coding is that of a profile's groups.
[[nodiscard]] constexpr bool is_joint(std::uint8_t coding) noexcept {
  return coding >> 4 == joint_coding >> 4;
}

/// The number of one of krul's codings: "int8", "slerp+f16", "joint"; none for anybody else's.
[[nodiscard]] constexpr std::optional<std::uint8_t> krul_coding_number(std::string_view name) noexcept {
  if (name == sharings_by_number[joint_coding >> 4]) return joint_coding;
  const std::size_t plus = name.find('+');
  const std::string_view sharing = plus == std::string_view::npos ? sharings_by_number[0] : name.substr(0, plus),
                         codec = plus == std::string_view::npos ? name : name.substr(plus + 1);
  for (std::size_t i = 0; i < sharings_by_number.size(); ++i)
    for (std::size_t j = 0; j < row_codecs_by_number.size(); ++j)
      if (!sharing.empty() && sharing == sharings_by_number[i] && codec == row_codecs_by_number[j] &&
          i != joint_coding >> 4)
        return static_cast<std::uint8_t>(i << 4 | (j + 1));
  return std::nullopt;
}
static_assert(krul_coding_number("int8") == 0x04 && krul_coding_number("slerp+f16") == 0x12);
static_assert(!krul_coding_number("slerp+acme.fp8.1") && !krul_coding_number("") && !krul_coding_number("+f16"));

}  // namespace krul
