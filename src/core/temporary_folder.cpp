#include "krul/core/temporary_folder.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string>
#include <system_error>
#include <vector>

#include "krul/core/private_folders.hpp"

namespace krul {
namespace {

// No folder of a store begins with a dot.
constexpr const char* temporary_folder_prefix = ".krul-temporary-";

int open_folder(const std::filesystem::path& path) {
  return ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

/// Whether another process has it.
bool is_locked(int folder) {
  return ::flock(folder, LOCK_EX | LOCK_NB) != 0;
}

}  // namespace

Result<TemporaryFolder> TemporaryFolder::make(const std::filesystem::path& parent) {
  if (auto made = make_private_folders(parent); !made) return propagate(made);
  sweep(parent);
  while (true) {
    std::string name = (parent / (std::string(temporary_folder_prefix) + "XXXXXX")).string();
    if (!::mkdtemp(name.data())) return tl::unexpected(cannot_make_folder(name, errno));
    const int folder = open_folder(name);
    struct stat status {};
    // Between the two calls a sweep may have taken it for a leftover. Where nothing can be locked, nothing is swept.
    if (folder >= 0 && (!is_locked(folder) || errno != EWOULDBLOCK) && ::stat(name.c_str(), &status) == 0)
      return TemporaryFolder(name, folder);
    const int number = errno;
    if (folder >= 0) ::close(folder);
    if (number != ENOENT && number != EWOULDBLOCK) return tl::unexpected(cannot_make_folder(name, number));
  }
}

void TemporaryFolder::sweep(const std::filesystem::path& parent) {
  std::vector<std::filesystem::path> found;
  std::error_code ignored;
  for (std::filesystem::directory_iterator entry(parent, ignored), end; !ignored && entry != end;
       entry.increment(ignored))
    if (entry->path().filename().string().starts_with(temporary_folder_prefix)) found.push_back(entry->path());
  for (const auto& path : found) {
    const int folder = open_folder(path);
    if (folder < 0) continue;
    if (!is_locked(folder)) std::filesystem::remove_all(path, ignored);
    ::close(folder);
  }
}

TemporaryFolder::~TemporaryFolder() {
  if (path_.empty()) return;
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
  ::close(lock_);
}

}  // namespace krul
