#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string_view>

#include "krul/core/error.hpp"

namespace krul::s3 {

/// ended(path, text): an element is over, with the names of those around it and its own text without white space around
/// it: "Error/Code", "NoSuchKey". Children come before what holds them.
using ElementEnd = std::function<void(std::string_view, std::string_view)>;

/// Reads what a server says. Bounded: 8 elements deep, 4096 bytes of text in each, names of 64; no document types, and
/// so no entities of the document's own.
/// @return corrupt
[[nodiscard]] Status read_xml(std::span<const std::byte> document, const ElementEnd& ended);

}  // namespace krul::s3
