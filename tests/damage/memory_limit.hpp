#pragma once

#include <sys/resource.h>
#include <unistd.h>

#include <cstddef>
#include <fstream>
#include <stdexcept>

namespace krul::testing {

/// The process gets no more than so many bytes beside those it has, while this lives: more is std::bad_alloc.
/// Sanitizers reserve address space of their own, so under them nothing is limited.
class MemoryLimit {
 public:
  explicit MemoryLimit([[maybe_unused]] std::size_t more) {
    if (::getrlimit(RLIMIT_AS, &before_) != 0) throw std::runtime_error("getrlimit");
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    std::size_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    const auto limit = static_cast<rlim_t>(pages * static_cast<std::size_t>(::getpagesize()) + more);
    const rlimit limited{before_.rlim_max == RLIM_INFINITY || limit < before_.rlim_max ? limit : before_.rlim_max,
                         before_.rlim_max};
    if (::setrlimit(RLIMIT_AS, &limited) != 0) throw std::runtime_error("setrlimit");
#endif
  }
  MemoryLimit(const MemoryLimit&) = delete;
  MemoryLimit& operator=(const MemoryLimit&) = delete;
  ~MemoryLimit() {
    ::setrlimit(RLIMIT_AS, &before_);
  }

 private:
  rlimit before_{};
};

}  // namespace krul::testing
