#include "krul/store/file_store.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <random>
#include <string_view>
#include <system_error>

#include "../core/descriptor.hpp"

namespace krul {
namespace {

using detail::Descriptor, detail::uninterrupted;

// Neither name is an object's: those don't start with a dot.
constexpr std::string_view temporary_prefix = ".new-";
constexpr const char* lock_name = ".lock";

// A folder can vanish between two calls, because the lock of an empty one takes it along: then all is tried again.
constexpr int attempts = 16;

Descriptor open_at(int directory, const char* name, int flags) {
  return Descriptor(uninterrupted([&] { return ::openat(directory, name, flags | O_CLOEXEC | O_NOFOLLOW, 0600); }));
}

// Whatever the umask takes away, what was made here stays its owner's to use. Where modes cannot be set, that shows
// when it is used.
void give_owner(int file) {
  static_cast<void>(::fchmod(file, 0600));
}
void give_owner_folder(int directory, const char* name) {
  static_cast<void>(::fchmodat(directory, name, 0700, AT_SYMLINK_NOFOLLOW));
}

int sync(int descriptor) {
  return uninterrupted([&] { return ::fsync(descriptor); });
}

int unlink_at(int directory, const char* name, int flags = 0) {
  return uninterrupted([&] { return ::unlinkat(directory, name, flags); });
}

int try_lock(int file) {
  return uninterrupted([&] { return ::flock(file, LOCK_EX | LOCK_NB); });
}

int status_of(int file, struct stat& status) {
  return uninterrupted([&] { return ::fstat(file, &status); });
}

int status_at(int directory, const char* name, struct stat& status) {
  return uninterrupted([&] { return ::fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW); });
}

Descriptor open_folder(int directory, const std::string& folder) {
  return open_at(directory, folder.c_str(), O_RDONLY | O_DIRECTORY);
}

std::string reason(int number) {
  return std::generic_category().message(number);
}

// One sentence for what the system said, ending in what to do.
tl::unexpected<Error> refused(const std::string& action, int number) {
  const std::string text = "cannot " + action + ": " + reason(number);
  switch (number) {
    case ENOENT:
      return fail(ErrorCode::not_found, text + "; recompute what it held");
    case ENOSPC:
      return fail(ErrorCode::no_space, text + "; free space or erase conversations, then save again");
    case EDQUOT:
      return fail(ErrorCode::no_space,
                  text + "; free space or erase conversations within this user's quota, then save again");
    case EFBIG:
      return fail(ErrorCode::no_space,
                  text + "; free space or raise the limit on the size of files (ulimit -f), then save again");
    case EMFILE:
      return fail(ErrorCode::io, text + "; this program may open no more files: raise the limit (ulimit -n)");
    case ENFILE:
      return fail(ErrorCode::io, text + "; this machine may open no more files: close programs or raise fs.file-max");
    case ENOMEM:
      return fail(ErrorCode::io, text + "; the system is out of memory: end other programs, then try again");
    case EIO:
      return fail(ErrorCode::medium, text + "; the medium failed: check it and the system's log");
    case EACCES:
    case EPERM:
      return fail(ErrorCode::io, text + "; give this user the right to do that there, or choose another directory");
    case ESTALE:
      return fail(ErrorCode::io, text + "; its server has it no more, or not as it was: open the store again");
    case EROFS:
      return fail(ErrorCode::io, text + "; choose a directory on a file system that can be written");
    case ELOOP:
    case ENOTDIR:
    case EISDIR:
      return fail(ErrorCode::io, text +
                                     "; something that krul did not write is in its place, and symbolic links are "
                                     "never followed: move it away");
    default:
      return fail(ErrorCode::io, text + "; see the system's log for what stands behind it");
  }
}

tl::unexpected<Error> not_a_file(const std::string& action, mode_t mode) {
  const std::string_view kind = S_ISDIR(mode)    ? "a directory"
                                : S_ISLNK(mode)  ? "a symbolic link, which krul never follows"
                                : S_ISFIFO(mode) ? "a pipe"
                                : S_ISSOCK(mode) ? "a socket"
                                                 : "a device";
  return fail(ErrorCode::io, "cannot " + action + ": it is " + std::string(kind) +
                                 ", not a regular file, and nothing that krul wrote: move it away");
}

tl::unexpected<Error> opened_for_reading() {
  return fail(ErrorCode::io, "the store was opened for reading only; open it for writing as well");
}

struct KeyParts {
  std::string folder;
  std::string object;
};

KeyParts split(const std::string& key, const char* message) {
  expects(is_store_key(key), message);
  return {key.substr(0, 32), key.substr(33)};
}

// Whether a TemporaryFile can have had this name: all others are somebody else's.
bool is_temporary(std::string_view name) {
  constexpr std::string_view digits = "0123456789";
  if (!name.starts_with(temporary_prefix)) return false;
  name.remove_prefix(temporary_prefix.size());
  const std::size_t dash = std::min(name.find_first_not_of(digits), name.size());
  const std::string_view rest = name.substr(std::min(dash + 1, name.size()));
  return dash > 0 && !rest.empty() && name[dash] == '-' && rest.find_first_not_of(digits) == std::string_view::npos;
}

struct CloseDirectory {
  void operator()(DIR* stream) const noexcept { ::closedir(stream); }
};

// Calls visit(name) for every entry until it returns false; 0 or an errno.
template <class Visit>
int for_each_entry(int directory, Visit&& visit) {
  Descriptor own = open_at(directory, ".", O_RDONLY | O_DIRECTORY);
  if (!own.is_open()) return errno;
  DIR* stream = nullptr;
  while ((stream = ::fdopendir(own.get())) == nullptr)
    if (errno != EINTR) return errno;
  (void)own.release();
  const std::unique_ptr<DIR, CloseDirectory> closed(stream);  // also if visit throws
  while (true) {
    errno = 0;
    const dirent* const entry = ::readdir(stream);
    if (!entry && errno == EINTR) continue;
    if (!entry) return errno;
    if (!visit(std::string_view(entry->d_name))) return 0;
  }
}

// Calls visit(name) for each temporary file that was left behind. A writer holds a lock on its own as long as it lives:
// one that can be locked is nobody's, and stays so while it is visited.
template <class Visit>
void for_each_dead_temporary(int folder, Visit&& visit) {
  std::vector<std::string> names;
  for_each_entry(folder, [&](std::string_view name) {
    if (is_temporary(name)) names.emplace_back(name);
    return true;
  });
  for (const std::string& name : names) {
    const Descriptor file = open_at(folder, name.c_str(), O_RDONLY | O_NONBLOCK);
    const bool dead = file.is_open() ? try_lock(file.get()) == 0 : errno == ELOOP;
    if (dead) visit(name);
  }
}

std::vector<std::string> dead_temporaries(int folder) {
  std::vector<std::string> names;
  for_each_dead_temporary(folder, [&](const std::string& name) { names.push_back(name); });
  return names;
}

// Whether a folder holds nothing but, perhaps, its lock.
bool is_empty_folder(int folder) {
  bool is_empty = true;
  const int unread = for_each_entry(
      folder, [&](std::string_view name) { return is_empty = name == "." || name == ".." || name == lock_name; });
  return unread == 0 && is_empty;
}

void sweep(int folder) {
  for_each_dead_temporary(folder, [&](const std::string& name) { unlink_at(folder, name.c_str()); });
}

// A new file under a temporary name; removed again unless renamed.
class TemporaryFile {
 public:
  explicit TemporaryFile(int folder) : folder_(folder) {
    std::random_device random;
    for (int attempt = 0; attempt < attempts; ++attempt) {
      name_ = std::string(temporary_prefix) + std::to_string(random()) + "-" + std::to_string(random());
      file_ = open_at(folder, name_.c_str(), O_WRONLY | O_CREAT | O_EXCL);
      if (!file_.is_open()) {
        error_ = errno;
        if (error_ == EEXIST) continue;
        return;
      }
      give_owner(file_.get());
      // Before it is locked a sweep may take it for a leftover, and hold its lock or have removed it: then another one.
      struct stat status {};
      const bool is_locked = try_lock(file_.get()) == 0;
      error_ = is_locked && status_of(file_.get(), status) == 0 ? 0 : errno;
      if (error_ == 0 && status.st_nlink > 0) return;
      unlink_at(folder_, name_.c_str());
      file_ = Descriptor();
      if (error_ != 0 && error_ != EWOULDBLOCK) return;
      error_ = EWOULDBLOCK;
    }
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() {
    if (file_.is_open() && !renamed_) unlink_at(folder_, name_.c_str());
  }

  [[nodiscard]] int error() const noexcept { return error_; }

  // Each of these returns 0 or an errno.
  [[nodiscard]] int write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t written = uninterrupted(
          [&] { return ::write(file_.get(), bytes.data(), std::min<std::size_t>(bytes.size(), 1U << 30)); });
      if (written <= 0) return written == 0 ? ENOSPC : errno;
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
    return 0;
  }
  [[nodiscard]] int sync() { return krul::sync(file_.get()) == 0 ? 0 : errno; }
  // Some network file systems say only at a close that there was no room; the duplicate keeps the lock.
  [[nodiscard]] int flush() {
    const int closed = uninterrupted([&] {
      const int duplicate = ::fcntl(file_.get(), F_DUPFD_CLOEXEC, 0);
      return duplicate >= 0 ? ::close(duplicate) : -1;
    });
    return closed == 0 ? 0 : errno;
  }
  [[nodiscard]] int rename(const std::string& object) {
    if (uninterrupted([&] { return ::renameat(folder_, name_.c_str(), folder_, object.c_str()); }) != 0) return errno;
    renamed_ = true;
    return 0;
  }

 private:
  int folder_;
  std::string name_;
  Descriptor file_;
  int error_ = 0;
  bool renamed_ = false;
};

int open_directory(const std::filesystem::path& path) {
  return uninterrupted([&] { return ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
}

// Makes a directory unless it is there, and what it is to lie in; 0 or an errno.
int make_directory(std::filesystem::path path, mode_t mode, Durability durability) {
  if (!path.has_filename()) path = path.parent_path();
  const std::filesystem::path parent = path.has_parent_path() ? path.parent_path() : ".";
  const auto make = [&] { return uninterrupted([&] { return ::mkdir(path.c_str(), mode); }) == 0 ? 0 : errno; };
  int number = make();
  if (number == ENOENT && parent != "." && parent != path) {
    number = make_directory(parent, 0777, durability);
    if (number == 0) number = make();
  }
  if (number == 0 && mode == 0700) give_owner_folder(AT_FDCWD, path.c_str());
  if ((number != 0 && number != EEXIST) || durability != Durability::full) return number == EEXIST ? 0 : number;
  const Descriptor opened(open_directory(parent));
  const bool synced = opened.is_open() && sync(opened.get()) == 0;
  // Who made one that is there may have died before its name was on the medium; it may also be of another file system.
  return synced || number == EEXIST ? 0 : errno;
}

// The folder, made if it is not there.
Result<Descriptor> make_folder(int directory, const std::string& folder, Durability durability) {
  Descriptor opened = open_folder(directory, folder);
  if (opened.is_open()) return opened;
  if (errno != ENOENT) return refused("open folder " + folder, errno);
  if (uninterrupted([&] { return ::mkdirat(directory, folder.c_str(), 0700); }) == 0) {
    give_owner_folder(directory, folder.c_str());
  } else if (errno != EEXIST) {
    if (errno == ENOENT)
      return fail(ErrorCode::io, "the store's directory was removed while it was open; open the store again");
    return refused("make folder " + folder, errno);
  }
  if (durability == Durability::full && sync(directory) != 0) return refused("make folder " + folder + " last", errno);
  opened = open_folder(directory, folder);
  if (!opened.is_open()) return refused("open folder " + folder, errno);
  return opened;
}

Result<Descriptor> open_object(int directory, const KeyParts& parts, struct stat& status) {
  const std::string action = "read object " + parts.folder + "/" + parts.object;
  const Descriptor folder = open_folder(directory, parts.folder);
  if (!folder.is_open()) return refused(action, errno);
  // Opening a pipe would wait for its other end.
  Descriptor file = open_at(folder.get(), parts.object.c_str(), O_RDONLY | O_NONBLOCK);
  const int number = file.is_open() ? 0 : errno;
  const bool is_known =
      (file.is_open() ? status_of(file.get(), status) : status_at(folder.get(), parts.object.c_str(), status)) == 0;
  if (is_known && !S_ISREG(status.st_mode)) return not_a_file(action, status.st_mode);
  if (number != 0) return refused(action, number);
  if (!is_known) return refused(action, errno);
  return file;
}

bool same_file(int file, int directory, const char* name) {
  struct stat opened {
  }, named{};
  return status_of(file, opened) == 0 && status_at(directory, name, named) == 0 && opened.st_dev == named.st_dev &&
         opened.st_ino == named.st_ino;
}

}  // namespace

Result<FileStore> FileStore::open(const std::filesystem::path& path, FileStoreOptions options) {
  const std::string action = "open the store '" + path.string() + "'";
  if (options.create && !options.read_only)
    if (const int number = make_directory(path, 0700, options.durability)) {
      const std::string making = "make the store's directory '" + path.string() + "'";
      if (number == ENOENT)
        return fail(ErrorCode::io, "cannot " + making + ": " + reason(number) + "; choose another directory");
      return refused(making, number);
    }
  const int number = open_directory(path);
  if (number < 0) {
    if (errno == ENOENT)
      return fail(ErrorCode::not_found, "cannot " + action + ": there is no such directory; check the path");
    if (errno == ENOTDIR)
      return fail(ErrorCode::io, "cannot " + action + ": it is not a directory; choose a directory or remove the file");
    return refused(action, errno);
  }
  std::shared_ptr<const int> directory(new int(number), [](const int* descriptor) {
    ::close(*descriptor);
    delete descriptor;
  });
  const int rights = R_OK | X_OK | (options.read_only ? 0 : W_OK);
  if (uninterrupted([&] { return ::faccessat(number, ".", rights, AT_EACCESS); }) != 0)
    return refused((options.read_only ? "read the store '" : "write to the store '") + path.string() + "'", errno);
  return FileStore(path, options, std::move(directory));
}

Status FileStore::put(const std::string& key, std::span<const std::byte> bytes) {
  const KeyParts parts = split(key, "FileStore::put: not a store key");
  if (options_.read_only) return opened_for_reading();
  const std::string action = "write object " + key;
  for (int attempt = 0;; ++attempt) {
    auto folder = make_folder(*directory_, parts.folder, options_.durability);
    if (!folder) {
      if (folder.error().code == ErrorCode::not_found && attempt < attempts) continue;
      return propagate(folder);
    }
    TemporaryFile file(folder->get());
    if (file.error() == ENOENT && attempt < attempts) continue;
    if (file.error() != 0) return refused(action, file.error());
    if (const int number = file.write(bytes)) return refused(action, number);
    if (const int number = options_.durability == Durability::none ? file.flush() : file.sync())
      return refused(action, number);
    if (const int number = file.rename(parts.object)) return refused(action, number);
    if (options_.durability == Durability::full && sync(folder->get()) != 0) return refused(action, errno);
    return {};
  }
}

Status FileStore::get(const std::string& key, std::uint64_t offset, std::span<std::byte> to) {
  const KeyParts parts = split(key, "FileStore::get: not a store key");
  struct stat status {};
  const auto file = open_object(*directory_, parts, status);
  if (!file) return propagate(file);
  const auto truncated = [&](std::uint64_t size) {
    return fail(ErrorCode::truncated, "object " + key + " has " + std::to_string(size) + " bytes, " +
                                          std::to_string(to.size()) + " from " + std::to_string(offset) +
                                          " on were wanted; recompute what they held");
  };
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (offset > size || to.size() > size - offset) return truncated(size);
  // No advice to the system, which would make cold reads slower: docs/decisions/0013.
  for (std::size_t done = 0; done < to.size();) {
    const ssize_t count = uninterrupted([&] {
      return ::pread(file->get(), to.data() + done, std::min<std::size_t>(to.size() - done, 1U << 30),
                     static_cast<off_t>(offset + done));
    });
    if (count < 0) return refused("read object " + key, errno);
    if (count == 0) return truncated(offset + done);
    done += static_cast<std::size_t>(count);
  }
  return {};
}

Result<std::uint64_t> FileStore::size(const std::string& key) {
  const KeyParts parts = split(key, "FileStore::size: not a store key");
  struct stat status {};
  const auto file = open_object(*directory_, parts, status);
  if (!file) return propagate(file);
  return static_cast<std::uint64_t>(status.st_size);
}

Status FileStore::erase(const std::string& key) {
  const KeyParts parts = split(key, "FileStore::erase: not a store key");
  if (options_.read_only) return opened_for_reading();
  const Descriptor folder = open_folder(*directory_, parts.folder);
  if (!folder.is_open()) {
    if (errno == ENOENT) return {};
    return refused("erase object " + key, errno);
  }
  if (unlink_at(folder.get(), parts.object.c_str()) != 0) {
    if (errno == ENOENT) return {};
    return refused("erase object " + key, errno);
  }
  if (options_.durability == Durability::full && sync(folder.get()) != 0) return refused("erase object " + key, errno);
  return {};
}

Result<std::vector<std::string>> FileStore::list(const std::string& folder) {
  expects(folder.empty() || is_store_folder(folder), "FileStore::list: not a folder");
  std::vector<std::string> names;
  const Descriptor opened = open_folder(*directory_, folder.empty() ? "." : folder);
  if (!opened.is_open()) {
    if (errno == ENOENT) return names;
    return refused("list folder " + folder, errno);
  }
  const int number = for_each_entry(opened.get(), [&](std::string_view name) {
    if (folder.empty() ? is_store_folder(name) : is_object_name(name)) names.emplace_back(name);
    return true;
  });
  if (number != 0) return refused(folder.empty() ? "list the store" : "list folder " + folder, number);
  if (folder.empty())
    std::erase_if(names, [&](const std::string& name) {
      bool holds_object = false;
      const Descriptor inner = open_folder(opened.get(), name);
      // What cannot be looked into is told by whoever reads it, and not passed over here.
      if (!inner.is_open()) return errno == ENOENT;
      const int unread =
          for_each_entry(inner.get(), [&](std::string_view entry) { return !(holds_object = is_object_name(entry)); });
      return unread == 0 && !holds_object;
    });
  std::sort(names.begin(), names.end());
  return names;
}

Result<std::vector<std::string>> FileStore::foreign_names(const std::string& folder) {
  expects(is_store_folder(folder), "FileStore::foreign_names: not a folder");
  std::vector<std::string> names;
  const Descriptor opened = open_folder(*directory_, folder);
  if (!opened.is_open()) {
    if (errno == ENOENT) return names;
    return refused("list folder " + folder, errno);
  }
  const int number = for_each_entry(opened.get(), [&](std::string_view name) {
    const bool own = name == "." || name == ".." || name == lock_name || is_temporary(name);
    if (!own && !is_object_name(name)) names.emplace_back(name);
    return true;
  });
  if (number != 0) return refused("list folder " + folder, number);
  std::sort(names.begin(), names.end());
  return names;
}

Result<FileStore::Lock> FileStore::lock(const std::string& folder) {
  expects(is_store_folder(folder), "FileStore::lock: not a folder");
  if (options_.read_only) return opened_for_reading();
  const std::string action = "lock folder " + folder;
  for (int attempt = 0;; ++attempt) {
    auto opened = make_folder(*directory_, folder, options_.durability);
    if (!opened) {
      if (opened.error().code == ErrorCode::not_found && attempt < attempts) continue;
      return propagate(opened);
    }
    Descriptor file = open_at(opened->get(), lock_name, O_RDWR | O_CREAT);
    if (!file.is_open()) {
      const int number = errno;
      if (number == ENOENT && attempt < attempts) continue;
      unlink_at(*directory_, folder.c_str(), AT_REMOVEDIR);  // which it only does to an empty one
      return refused(action, number);
    }
    give_owner(file.get());
    if (try_lock(file.get()) != 0) {
      if (errno == EWOULDBLOCK)
        return fail(ErrorCode::busy,
                    "another writer holds conversation folder " + folder +
                        "; try again when it is done; where it is a Conversation of this process, destroy that first");
      return refused(action, errno);
    }
    // The holder before may have removed the file, and the folder, that were opened here.
    if (!same_file(file.get(), opened->get(), lock_name) || !same_file(opened->get(), *directory_, folder.c_str())) {
      if (attempt < attempts) continue;
      return fail(ErrorCode::busy, "conversation folder " + folder + " keeps changing hands; try again");
    }
    // Whoever made the folder may have died before its name was on the medium.
    if (options_.durability == Durability::full && sync(*directory_) != 0) return refused(action, errno);
    sweep(opened->get());
    std::string name = folder;  // before the lock is nobody's for a moment
    return Lock(directory_, std::move(name), file.release());
  }
}

std::vector<std::string> FileStore::dead_writes() {
  std::vector<std::string> keys;
  std::vector<std::string> folders;
  for_each_entry(*directory_, [&](std::string_view name) {
    if (is_store_folder(name)) folders.emplace_back(name);
    return true;
  });
  std::sort(folders.begin(), folders.end());
  for (const std::string& folder : folders) {
    const Descriptor opened = open_folder(*directory_, folder);
    if (!opened.is_open()) continue;
    for (const std::string& name : dead_temporaries(opened.get())) keys.push_back(folder + "/" + name);
    if (is_empty_folder(opened.get())) keys.push_back(folder + "/" + std::string(lock_name));
  }
  return keys;
}

std::vector<std::string> FileStore::dead_writes(const std::string& folder) {
  expects(is_store_folder(folder), "FileStore::dead_writes: not a folder");
  const Descriptor opened = open_folder(*directory_, folder);
  return opened.is_open() ? dead_temporaries(opened.get()) : std::vector<std::string>{};
}

FileStore::Lock::~Lock() {
  if (file_ < 0) return;
  const Descriptor folder = open_folder(*directory_, folder_);
  const bool is_empty = folder.is_open() && is_empty_folder(folder.get());
  // Somebody may have removed the lock file, and somebody else hold another one since.
  if (is_empty && same_file(file_, folder.get(), lock_name) && unlink_at(folder.get(), lock_name) == 0)
    unlink_at(*directory_, folder_.c_str(), AT_REMOVEDIR);
  ::close(file_);
}

}  // namespace krul
