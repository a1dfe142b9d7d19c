#include "krul/core/private_folders.hpp"

#include <sys/stat.h>

#include <cerrno>
#include <system_error>

namespace krul {

Error cannot_make_folder(const std::filesystem::path& path, int number) {
  return {number == ENOSPC || number == EDQUOT ? ErrorCode::no_space : ErrorCode::io,
          "cannot make the folder '" + path.string() + "': " + std::generic_category().message(number) +
              "; choose one that this user may write"};
}

Status make_private_folders(const std::filesystem::path& path) {
  std::filesystem::path made;
  for (const auto& part : path) {
    made /= part;
    if (::mkdir(made.c_str(), 0700) == 0 || errno == EEXIST) continue;
    struct stat there {};
    if (const int number = errno; ::stat(made.c_str(), &there) != 0)
      return tl::unexpected(cannot_make_folder(made, number));
  }
  return {};
}

}  // namespace krul
