#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>

namespace krul {

/// Makes the next reads of all files below a folder come from the medium, as far as the system follows the advice: what
/// a measurement of a FileStore does before each read.
inline void drop_from_page_cache(const std::filesystem::path& folder) {
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    const int file = ::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) continue;
    ::fdatasync(file);
    ::posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    ::close(file);
  }
}

}  // namespace krul
