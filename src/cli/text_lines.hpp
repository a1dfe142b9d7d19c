#pragma once

#include <cstdio>
#include <optional>
#include <string>

#include "krul/core/error.hpp"
#include "krul/core/file_io.hpp"

namespace krul::cli {

/// The next line of a stream, without what ends it: \n, \r\n, or the end of the stream. Its bytes are taken as they
/// are, as those of files.
/// @return nothing at the end; io if the stream cannot be read, too_large if a line has more than largest_text bytes
[[nodiscard]] Result<std::optional<std::string>> next_line(std::FILE* from);

}  // namespace krul::cli
