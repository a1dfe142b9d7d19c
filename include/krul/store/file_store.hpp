#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/store/conversation_store.hpp"

namespace krul {

/// What of an acknowledged put survives a loss of power. A crash of the program alone loses nothing at any level.
enum class Durability : std::uint8_t {
  none,  ///< nothing is forced to the medium: fastest; an object may be gone or empty afterwards
  data,  ///< the object's bytes are forced out before it takes its name; the new name may be forgotten, not torn: a
         ///< save may be lost, and is whole where the file system keeps the order of names
  full,  ///< the name as well: what put acknowledged is there
};

struct FileStoreOptions {
  Durability durability = Durability::full;
  bool create = true;      ///< make the directory, mode 0700, if it is not there
  bool read_only = false;  ///< needs no right to write and makes nothing; put, erase and lock are refused
};

/// One directory: a folder is a subdirectory, an object a file, written under a temporary name and renamed.
/// The directory is opened once and everything is reached from there; symbolic links inside it are never followed, so
/// neither a key nor a planted link leads out. Files have mode 0600, directories 0700. Copies share the directory.
class FileStore {
 public:
  /// The right to write one folder, for one holder among all processes of the machine. The system takes it back when a
  /// process dies. A folder without objects goes with its lock.
  class Lock {
   public:
    Lock(Lock&& other) noexcept
        : directory_(std::move(other.directory_)),
          folder_(std::move(other.folder_)),
          file_(std::exchange(other.file_, -1)) {}
    Lock& operator=(Lock&&) = delete;
    ~Lock();

   private:
    friend FileStore;
    Lock(std::shared_ptr<const int> directory, std::string folder, int file)
        : directory_(std::move(directory)), folder_(std::move(folder)), file_(file) {}
    std::shared_ptr<const int> directory_;
    std::string folder_;
    int file_;
  };

  /// Opens a store, for reading and writing unless the options say otherwise.
  [[nodiscard]] static Result<FileStore> open(const std::filesystem::path& path, FileStoreOptions options = {});

  /// Never retries a failed fsync: after one the put has failed, and the old object is there unless only the
  /// folder's fsync failed.
  [[nodiscard]] Status put(const std::string& key, std::span<const std::byte> bytes);
  [[nodiscard]] Status get(const std::string& key, std::uint64_t offset, std::span<std::byte> to);
  [[nodiscard]] Result<std::uint64_t> size(const std::string& key);
  [[nodiscard]] Status erase(const std::string& key);
  [[nodiscard]] Result<std::vector<std::string>> list(const std::string& folder);
  /// Names in a folder that are neither objects' nor the store's own, sorted: somebody else put them there.
  /// @throws PreconditionError if `folder` is not one
  [[nodiscard]] Result<std::vector<std::string>> foreign_names(const std::string& folder);
  /// Also removes what writers that died left behind in the folder.
  [[nodiscard]] Result<Lock> lock(const std::string& folder);
  /// Files of all folders, as "folder/name", that writers left behind who died while they wrote, and the locks of
  /// empty folders. Whoever takes the folder's lock and gives it back removes them. What a living writer has just made
  /// may be among them: it takes another file, and nobody else gets a lock that it has.
  [[nodiscard]] std::vector<std::string> dead_writes();
  /// Names of those files of one folder, without its lock; none if there is no such folder.
  /// @throws PreconditionError if `folder` is not one
  [[nodiscard]] std::vector<std::string> dead_writes(const std::string& folder);
  [[nodiscard]] StoreCapabilities capabilities() const noexcept {
    return {.durable = options_.durability == Durability::full, .shared = true};
  }

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

 private:
  FileStore(std::filesystem::path path, FileStoreOptions options, std::shared_ptr<const int> directory)
      : path_(std::move(path)), options_(options), directory_(std::move(directory)) {}

  std::filesystem::path path_;
  FileStoreOptions options_;
  std::shared_ptr<const int> directory_;  // closes the descriptor with the last copy
};
static_assert(ConversationStore<FileStore>);

}  // namespace krul
