#pragma once

#include <cstdint>
#include <string_view>

namespace krul {

/// Instructions that coding symbols may use. All give the same bytes, the same symbols and the same errors.
enum class EntropyPath : std::uint8_t { portable, avx512 };

[[nodiscard]] std::string_view name(EntropyPath path) noexcept;
[[nodiscard]] bool available(EntropyPath path) noexcept;    ///< on this processor
[[nodiscard]] EntropyPath fastest_entropy_path() noexcept;  ///< of those that are available

}  // namespace krul
