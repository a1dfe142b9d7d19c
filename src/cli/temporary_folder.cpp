#include "temporary_folder.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string>
#include <system_error>
#include <vector>

namespace krul::cli {
namespace {

// No folder of a store begins with a dot.
constexpr const char* temporary_prefix = ".krul-temporary-";

int open_folder(const std::filesystem::path& path) {
  return ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

/// Whether another process has it.
bool is_locked(int folder) {
  return ::flock(folder, LOCK_EX | LOCK_NB) != 0;
}

tl::unexpected<Error> refused(const std::filesystem::path& path, int number) {
  return fail(number == ENOSPC || number == EDQUOT ? ErrorCode::no_space : ErrorCode::io,
              "cannot make the folder '" + path.string() + "': " + std::generic_category().message(number) +
                  "; choose one that this user may write");
}

}  // namespace

Status make_private_folders(const std::filesystem::path& path) {
  std::filesystem::path made;
  for (const auto& part : path) {
    made /= part;
    if (::mkdir(made.c_str(), 0700) == 0 || errno == EEXIST) continue;
    struct stat there {};
    if (const int number = errno; ::stat(made.c_str(), &there) != 0) return refused(made, number);
  }
  return {};
}

Result<TemporaryFolder> TemporaryFolder::make(const std::filesystem::path& parent) {
  if (auto made = make_private_folders(parent); !made) return propagate(made);
  sweep(parent);
  while (true) {
    std::string name = (parent / (std::string(temporary_prefix) + "XXXXXX")).string();
    if (!::mkdtemp(name.data())) return refused(name, errno);
    const int folder = open_folder(name);
    struct stat status {};
    // Between the two calls a sweep may have taken it for a leftover. Where nothing can be locked, nothing is swept.
    if (folder >= 0 && (!is_locked(folder) || errno != EWOULDBLOCK) && ::stat(name.c_str(), &status) == 0)
      return TemporaryFolder(name, folder);
    const int number = errno;
    if (folder >= 0) ::close(folder);
    if (number != ENOENT && number != EWOULDBLOCK) return refused(name, number);
  }
}

void TemporaryFolder::sweep(const std::filesystem::path& parent) {
  std::vector<std::filesystem::path> found;
  std::error_code ignored;
  for (std::filesystem::directory_iterator entry(parent, ignored), end; !ignored && entry != end;
       entry.increment(ignored))
    if (entry->path().filename().string().starts_with(temporary_prefix)) found.push_back(entry->path());
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

}  // namespace krul::cli
