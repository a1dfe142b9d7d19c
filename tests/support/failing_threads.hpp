#pragma once

namespace krul::test {

/// While it lives the system starts no thread of this program. Needs failing_threads.cpp, which stands before
/// pthread_create.
class NoThreads {
 public:
  NoThreads();
  NoThreads(const NoThreads&) = delete;
  NoThreads& operator=(const NoThreads&) = delete;
  ~NoThreads();
};

}  // namespace krul::test
