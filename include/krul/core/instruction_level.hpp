#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "krul/core/error.hpp"

namespace krul {

/// What a processor's instructions allow krul's loops to use. Each includes those before it on its kind of processor,
/// but for the AVX-512 ones, which need not have avx2_vnni.
enum class InstructionLevel : std::uint8_t {
  portable,     ///< what every processor of x86-64 has, and any other that is not named here
  avx2,         ///< AVX2, FMA, F16C, BMI2
  avx2_vnni,    ///< and dot products of bytes in registers of 256 bits (AVX-VNNI)
  avx512,       ///< AVX-512 F, BW, DQ, VL and VNNI, beside avx2
  avx512_bf16,  ///< and dot products of bf16
  neon,         ///< what every processor of 64-bit ARM has
};

[[nodiscard]] constexpr std::string_view name(InstructionLevel level) noexcept {
  constexpr std::string_view names[] = {"portable", "avx2", "avx2_vnni", "avx512", "avx512_bf16", "neon"};
  return names[static_cast<std::size_t>(level)];
}

/// The levels that this build has code for, the lowest first.
#if defined(__x86_64__)
inline constexpr std::array built_levels{InstructionLevel::portable, InstructionLevel::avx2,
                                         InstructionLevel::avx2_vnni, InstructionLevel::avx512,
                                         InstructionLevel::avx512_bf16};
#elif defined(__aarch64__)
inline constexpr std::array built_levels{InstructionLevel::neon};
#else
inline constexpr std::array built_levels{InstructionLevel::portable};
#endif

[[nodiscard]] constexpr bool is_built(InstructionLevel level) noexcept {
  for (const auto built : built_levels)
    if (built == level) return true;
  return false;
}

/// Whether code for `level` runs where `here` is the highest.
[[nodiscard]] constexpr bool includes(InstructionLevel here, InstructionLevel level) noexcept {
  using enum InstructionLevel;
  if (level == avx2_vnni) return here == avx2_vnni;
  if (here == neon || level == neon) return here == level;
  return level <= here;
}

[[nodiscard]] constexpr std::optional<InstructionLevel> instruction_level_from(std::string_view text) noexcept {
  using enum InstructionLevel;
  for (const auto level : {portable, avx2, avx2_vnni, avx512, avx512_bf16, neon})
    if (text == name(level)) return level;
  return std::nullopt;
}

/// Leaves those levels that lie not above the named one, and at least the first.
/// Fails with invalid_argument if there is no level of that name.
/// @param levels  that a processor has, ascending
/// @param most    empty: all are left
[[nodiscard]] inline Status lower(std::vector<InstructionLevel>& levels, std::string_view most) {
  if (most.empty()) return {};
  if (const auto highest = instruction_level_from(most)) {
    while (levels.size() > 1 && levels.back() > *highest) levels.pop_back();
    return {};
  }
  std::string known;
  for (const auto level : built_levels) known += (known.empty() ? "" : ", ") + std::string(name(level));
  return fail(ErrorCode::invalid_argument,
              "KRUL_ISA=" + std::string(most) + " names no instruction level: use one of " + known);
}

/// Calls choose.operator()<level>() with the highest of Levels that this build has and `here` includes. Of each kind of
/// processor the lowest level must be among them.
template <InstructionLevel... Levels, class Choose>
constexpr decltype(auto) at_level(InstructionLevel here, Choose&& choose) {
  using Chosen = decltype(choose.template operator()<built_levels.front()>());
  static_assert(std::is_pointer_v<Chosen>);
  Chosen found = nullptr;
  const auto look = [&]<InstructionLevel level>() {
    if constexpr (is_built(level))
      if (includes(here, level)) found = choose.template operator()<level>();
  };
  (look.template operator()<Levels>(), ...);
  return found;
}

}  // namespace krul
