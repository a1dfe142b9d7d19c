#pragma once

#include <cstddef>
#include <cstdint>

namespace krul::test {

/// Which allocations of the program fail, of those that operator new makes from begin_failing on.
struct AllocationFault {
  std::uint64_t first = 0;  ///< this one
  bool once = true;         ///< else all from there on as well
};

/// Needs failing_allocations.cpp, which replaces operator new of the whole program.
void begin_failing(const AllocationFault& fault);

/// @return how many allocations there have been since begin_failing
std::uint64_t end_failing();

}  // namespace krul::test
