#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <system_error>

namespace krul {

/// Makes the next reads of all files below a folder come from the medium, as far as the system follows the advice: what
/// a measurement of a FileStore does before each read.
inline void drop_from_page_cache(const std::filesystem::path& folder) {
  std::error_code error;
  for (std::filesystem::recursive_directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code unknown;
    if (!entry->is_regular_file(unknown)) continue;
    const int file = ::open(entry->path().c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) continue;
    ::fdatasync(file);
    ::posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    ::close(file);
  }
}

}  // namespace krul
