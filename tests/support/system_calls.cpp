#include "support/system_calls.hpp"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <utility>

namespace {

using krul::test::CallFault;
using krul::test::FileLog;
using Kind = krul::test::FileOperation::Kind;

std::atomic<bool> armed{false}, was_hit{false};
std::atomic<std::uint64_t> calls{0};
CallFault fault;

/// Counts a call; true if it is to be spoiled.
bool is_spoiled(bool writing) {
  if (!armed || (fault.writing && !writing)) return false;
  const std::uint64_t index = calls++;
  if (index < fault.first || (fault.once && index > fault.first)) return false;
  was_hit = true;
  if (fault.kind == CallFault::Kind::kill) ::kill(::getpid(), SIGKILL);
  if (fault.kind == CallFault::Kind::wait) {
    static std::minstd_rand random(static_cast<unsigned>(::getpid()));
    if (random() % 8 == 0) ::usleep(static_cast<useconds_t>(random() % static_cast<unsigned>(fault.number)));
    return false;
  }
  return true;
}

bool fails(bool writing) {
  if (!is_spoiled(writing) || fault.kind != CallFault::Kind::fail) return false;
  errno = fault.number;
  return true;
}

template <class Function>
Function real(Function, const char* name) {
  return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

#define KRUL_REAL(name) static const auto next = real(&::name, #name)

/// Which node each file is. A number of the file system that is used again belongs to what was made last.
struct Recording {
  FileLog log;
  std::map<std::pair<dev_t, ino_t>, std::size_t> nodes;

  std::optional<std::size_t> find(const struct stat& status) const {
    const auto found = nodes.find({status.st_dev, status.st_ino});
    return found == nodes.end() ? std::nullopt : std::optional(found->second);
  }
  std::optional<std::size_t> at(int folder, const char* name) const {
    struct stat status {};
    if (::fstatat(folder, name, &status, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0) return std::nullopt;
    return find(status);
  }
  void made(Kind kind, std::optional<std::size_t> folder, int in, const char* name) {
    struct stat status {};
    if (!folder || ::fstatat(in, name, &status, AT_SYMLINK_NOFOLLOW) != 0) return;
    nodes[{status.st_dev, status.st_ino}] = log.nodes;
    const std::string_view path = name;
    log.operations.push_back(
        {.kind = kind, .folder = *folder, .node = log.nodes++, .name = std::string(path.substr(path.rfind('/') + 1))});
  }
};
std::optional<Recording> recording;

/// Runs `note` with the recording, if there is one, and leaves errno as it is. What it calls is not recorded.
template <class Note>
void noted(Note&& note) {
  if (!recording) return;
  const int number = errno;
  const bool was_armed = armed.exchange(false);
  note(*recording);
  armed = was_armed;
  errno = number;
}

bool exists(int folder, const char* name) {
  bool there = false;
  noted([&](Recording&) {
    struct stat status {};
    there = ::fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) == 0;
  });
  return there;
}

}  // namespace

namespace krul::test {

void arm(const CallFault& wanted) {
  fault = wanted;
  calls = 0;
  was_hit = false;
  armed = true;
}

CallCount disarm() {
  armed = false;
  return {calls, was_hit};
}

void record(const std::filesystem::path& root) {
  struct stat status {};
  if (::stat(root.c_str(), &status) != 0) return;
  recording.emplace();
  recording->nodes[{status.st_dev, status.st_ino}] = 0;
}

std::size_t recorded() {
  return recording ? recording->log.operations.size() : 0;
}

FileLog end_recording() {
  FileLog log = std::move(recording->log);
  recording.reset();
  return log;
}

}  // namespace krul::test

extern "C" {

int open(const char* name, int flags, ...) {
  KRUL_REAL(open);
  std::va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  return fails((flags & O_CREAT) != 0) ? -1 : next(name, flags, mode);
}

int openat(int directory, const char* name, int flags, ...) {
  KRUL_REAL(openat);
  std::va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  if (fails((flags & O_CREAT) != 0)) return -1;
  const bool makes = (flags & O_CREAT) != 0 && recording && !exists(directory, name);
  const int file = next(directory, name, flags, mode);
  if (makes && file >= 0)
    noted([&](Recording& in) { in.made(Kind::make_file, in.at(directory, ""), directory, name); });
  return file;
}

int close(int file) {
  KRUL_REAL(close);
  const bool spoiled = fails(false);
  const int number = errno, result = next(file);
  if (!spoiled) return result;
  errno = number;
  return -1;
}

ssize_t write(int file, const void* bytes, size_t count) {
  KRUL_REAL(write);
  if (is_spoiled(true)) {
    if (fault.kind != CallFault::Kind::halve) {
      errno = fault.number;
      return -1;
    }
    if (count > 1) count /= 2;
  }
  const ssize_t written = next(file, bytes, count);
  if (written > 0)
    noted([&](Recording& in) {
      const auto* const from = static_cast<const std::byte*>(bytes);
      if (const auto node = in.at(file, ""))
        in.log.operations.push_back({.kind = Kind::write, .node = *node, .bytes = {from, from + written}});
    });
  return written;
}

ssize_t pread(int file, void* bytes, size_t count, off_t offset) {
  KRUL_REAL(pread);
  if (is_spoiled(false)) {
    if (fault.kind == CallFault::Kind::halve) return next(file, bytes, count > 1 ? count / 2 : count, offset);
    errno = fault.number;
    return -1;
  }
  return next(file, bytes, count, offset);
}

int fsync(int file) {
  KRUL_REAL(fsync);
  if (fails(true)) return -1;
  const int result = next(file);
  if (result == 0)
    noted([&](Recording& in) {
      if (const auto node = in.at(file, "")) in.log.operations.push_back({.kind = Kind::sync, .node = *node});
    });
  return result;
}

int mkdir(const char* name, mode_t mode) noexcept {
  KRUL_REAL(mkdir);
  if (fails(true)) return -1;
  const int result = next(name, mode);
  if (result == 0)
    noted([&](Recording& in) {
      const auto parent = std::filesystem::path(name).parent_path();
      in.made(Kind::make_folder, in.at(AT_FDCWD, parent.empty() ? "." : parent.c_str()), AT_FDCWD, name);
    });
  return result;
}

int mkdirat(int directory, const char* name, mode_t mode) noexcept {
  KRUL_REAL(mkdirat);
  if (fails(true)) return -1;
  const int result = next(directory, name, mode);
  if (result == 0) noted([&](Recording& in) { in.made(Kind::make_folder, in.at(directory, ""), directory, name); });
  return result;
}

int renameat(int from, const char* name, int to, const char* other) noexcept {
  KRUL_REAL(renameat);
  if (fails(true)) return -1;
  const int result = next(from, name, to, other);
  if (result == 0)
    noted([&](Recording& in) {
      if (const auto folder = in.at(from, ""))
        in.log.operations.push_back({.kind = Kind::rename, .folder = *folder, .name = name, .to = other});
    });
  return result;
}

int unlinkat(int directory, const char* name, int flags) noexcept {
  KRUL_REAL(unlinkat);
  if (fails(true)) return -1;
  const int result = next(directory, name, flags);
  if (result == 0)
    noted([&](Recording& in) {
      if (const auto folder = in.at(directory, ""))
        in.log.operations.push_back({.kind = Kind::remove, .folder = *folder, .name = name});
    });
  return result;
}

int flock(int file, int operation) noexcept {
  KRUL_REAL(flock);
  return fails(false) ? -1 : next(file, operation);
}

int fcntl(int file, int command, ...) {
  KRUL_REAL(fcntl);
  std::va_list arguments;
  va_start(arguments, command);
  void* const argument = va_arg(arguments, void*);
  va_end(arguments);
  // Only duplicates are what a store asks for; sanitizers ask for other things.
  return command == F_DUPFD_CLOEXEC && fails(false) ? -1 : next(file, command, argument);
}

int faccessat(int directory, const char* name, int rights, int flags) noexcept {
  KRUL_REAL(faccessat);
  return fails(false) ? -1 : next(directory, name, rights, flags);
}

int fstat(int file, struct stat* status) noexcept {
  using Function = int (*)(int, struct stat*);
  static const auto next = reinterpret_cast<Function>(::dlsym(RTLD_NEXT, "fstat"));
  return fails(false) ? -1 : next(file, status);
}

int fstatat(int directory, const char* name, struct stat* status, int flags) noexcept {
  using Function = int (*)(int, const char*, struct stat*, int);
  static const auto next = reinterpret_cast<Function>(::dlsym(RTLD_NEXT, "fstatat"));
  return fails(false) ? -1 : next(directory, name, status, flags);
}

DIR* fdopendir(int file) {
  KRUL_REAL(fdopendir);
  return fails(false) ? nullptr : next(file);
}

struct dirent* readdir(DIR* stream) {
  KRUL_REAL(readdir);
  return fails(false) ? nullptr : next(stream);
}

}  // extern "C"
