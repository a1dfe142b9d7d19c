#pragma once

#if defined(__linux__)
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace krul {

/// Makes the calling thread one that others go before, from now on. Where the system has no such thing for a single
/// thread, nothing happens.
inline void yield_to_other_threads() noexcept {
#if defined(__linux__)
  // Linux takes a thread's number for that of a process, and nice levels are per thread.
  static_cast<void>(setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), 19));
#endif
}

}  // namespace krul
