#pragma once

#include <cstdint>

namespace krul::test {

/// What becomes of a FileStore's calls of the system. This program has functions of their names that stand before the
/// C library's.
struct CallFault {
  enum class Kind : std::uint8_t {
    fail,   ///< returns `number` as errno and does nothing
    halve,  ///< a write or read does half of what was asked for, and says so; other calls are as they were
    kill,   ///< ends the process by SIGKILL before the call
  };
  Kind kind = Kind::fail;
  std::uint64_t first = 0;  ///< index of the first call that it hits; of writing ones only, if so asked
  bool once = true;         ///< or all from there on
  bool writing = false;     ///< only calls that change something count: opens that make files among them
  int number = 0;
};

/// Counts calls from now on, and lets the fault hit them.
void arm(const CallFault& fault);
/// Ends that; how many calls were counted, and whether any was hit.
struct CallCount {
  std::uint64_t calls = 0;
  bool hit = false;
};
CallCount disarm();

}  // namespace krul::test
