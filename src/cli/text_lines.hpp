#pragma once

#include <cstddef>
#include <cstdio>
#include <optional>
#include <string>

#include "krul/core/error.hpp"

namespace krul::cli {

/// Bytes of a text that is read as a whole, at most.
inline constexpr std::size_t largest_text = 64U << 20;

/// The next line of a stream, without what ends it: \n, \r\n, or the end of the stream. Its bytes are taken as they
/// are, as those of files.
/// @return nothing at the end; io if the stream cannot be read, too_large if a line has more than largest_text bytes
[[nodiscard]] Result<std::optional<std::string>> next_line(std::FILE* from);

}  // namespace krul::cli
