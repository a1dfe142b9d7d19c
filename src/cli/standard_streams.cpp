#include "standard_streams.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <string>
#include <system_error>

namespace krul::cli {

void prepare_standard_streams() {
  std::signal(SIGPIPE, SIG_IGN);
  // Open only for what the stream is not used for, so that using one that is closed stays an error.
  for (int number = STDIN_FILENO; number <= STDERR_FILENO; ++number)
    if (::fcntl(number, F_GETFD) < 0)
      static_cast<void>(::open("/dev/null", number == STDIN_FILENO ? O_WRONLY : O_RDONLY));  // the lowest that is free
}

Status flush_standard_output() {
  errno = 0;
  std::cout.flush();
  if (std::fflush(stdout) == 0 && !std::ferror(stdout) && std::cout) return {};
  const std::string why = errno == 0 ? "" : ": " + std::generic_category().message(errno);
  return fail(errno == ENOSPC ? ErrorCode::no_space : ErrorCode::io, "standard output cannot be written" + why);
}

}  // namespace krul::cli
