#pragma once

namespace krul {

/// Who wrote a saved conversation: the name and version of this library.
inline constexpr const char* krul_version = "krul 0.1.0";

}  // namespace krul
