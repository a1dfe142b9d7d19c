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
  // Open only for reading, so that writing to a stream that is closed stays an error.
  for (int number = ::open("/dev/null", O_RDONLY); number >= 0; number = ::open("/dev/null", O_RDONLY))
    if (number > STDERR_FILENO) {
      ::close(number);
      break;
    }
}

Status flush_standard_output() {
  errno = 0;
  std::cout.flush();
  if (std::fflush(stdout) == 0 && !std::ferror(stdout) && std::cout) return {};
  const std::string why = errno == 0 ? "" : ": " + std::generic_category().message(errno);
  return fail(errno == ENOSPC ? ErrorCode::no_space : ErrorCode::io, "standard output cannot be written" + why);
}

}  // namespace krul::cli
