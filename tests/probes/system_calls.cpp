#include "system_calls.hpp"

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

namespace {

using krul::test::CallFault;

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

}  // namespace krul::test

extern "C" {

int openat(int directory, const char* name, int flags, ...) {
  KRUL_REAL(openat);
  std::va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  return fails((flags & O_CREAT) != 0) ? -1 : next(directory, name, flags, mode);
}

ssize_t write(int file, const void* bytes, size_t count) {
  KRUL_REAL(write);
  if (is_spoiled(true)) {
    if (fault.kind == CallFault::Kind::halve) return next(file, bytes, count > 1 ? count / 2 : count);
    errno = fault.number;
    return -1;
  }
  return next(file, bytes, count);
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
  return fails(true) ? -1 : next(file);
}

int mkdirat(int directory, const char* name, mode_t mode) noexcept {
  KRUL_REAL(mkdirat);
  return fails(true) ? -1 : next(directory, name, mode);
}

int renameat(int from, const char* name, int to, const char* other) noexcept {
  KRUL_REAL(renameat);
  return fails(true) ? -1 : next(from, name, to, other);
}

int unlinkat(int directory, const char* name, int flags) noexcept {
  KRUL_REAL(unlinkat);
  return fails(true) ? -1 : next(directory, name, flags);
}

int flock(int file, int operation) noexcept {
  KRUL_REAL(flock);
  return fails(false) ? -1 : next(file, operation);
}

int fstat(int file, struct stat* status) noexcept {
  using Function = int (*)(int, struct stat*);
  static const auto next = reinterpret_cast<Function>(::dlsym(RTLD_NEXT, "fstat"));
  return fails(false) ? -1 : next(file, status);
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
