#pragma once

#include <filesystem>
#include <utility>

#include "krul/core/error.hpp"

namespace krul {

/// A folder of this process's own, mode 0700, that goes with all that is in it when this does. What killed processes
/// have left in the same place goes when the next one is made.
class TemporaryFolder {
 public:
  /// @param parent  made by make_private_folders if it is not there
  /// @return        io or no_space if it cannot be made
  [[nodiscard]] static Result<TemporaryFolder> make(const std::filesystem::path& parent);
  /// Removes what killed processes have left there; nothing if there is no such place.
  static void sweep(const std::filesystem::path& parent);

  TemporaryFolder(TemporaryFolder&& other) noexcept
      : path_(std::exchange(other.path_, {})), lock_(std::exchange(other.lock_, -1)) {}
  TemporaryFolder& operator=(TemporaryFolder&&) = delete;
  ~TemporaryFolder();

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

 private:
  TemporaryFolder(std::filesystem::path path, int lock) : path_(std::move(path)), lock_(lock) {}

  std::filesystem::path path_;  ///< empty: moved away
  int lock_;                    ///< the folder, locked as long as its process lives
};

}  // namespace krul
