#pragma once

#include <cstdint>
#include <filesystem>

#include "support/file_log.hpp"

namespace krul::test {

/// What becomes of a FileStore's calls of the system. A program that is linked with system_calls.cpp has functions of
/// their names that stand before the C library's.
struct CallFault {
  enum class Kind : std::uint8_t {
    fail,   ///< returns `number` as errno and does nothing, but that a close closes
    halve,  ///< a write or read does half of what was asked for, and says so; other calls are as they were
    kill,   ///< ends the process by SIGKILL before the call
    wait,   ///< one call of eight is up to `number` microseconds late, so that other processes come in between
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

/// Logs what is done to files and folders in `root`, an empty folder, from now on. One thread may be at work.
void record(const std::filesystem::path& root);
/// How many operations were logged so far.
std::size_t recorded();
/// Ends that; what was done.
FileLog end_recording();

}  // namespace krul::test
