#pragma once

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <utility>

namespace krul::cli {

/// While it lives, the first SIGINT, SIGTERM or SIGHUP is noted, for work to be ended in order; the next one ends the
/// program at once. Signals that the program was started to ignore stay ignored. There is one at a time.
class Interruption {
 public:
  Interruption() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0) {
      come_ = ends[0];
      noted_at_ = ends[1];
    }
    rearm();
  }
  Interruption(const Interruption&) = delete;
  Interruption& operator=(const Interruption&) = delete;
  ~Interruption() {
    restore_defaults();
    ::close(come_);
    ::close(std::exchange(noted_at_, -1));
  }

  /// The number of the signal that came; 0: none did.
  [[nodiscard]] int signal() const noexcept { return noted_; }

  /// Waits until something can be read there, or a signal has come: also one that came just before.
  void wait_for(int descriptor) const {
    pollfd awaited[] = {{descriptor, POLLIN, 0}, {come_, POLLIN, 0}};
    while (noted_ == 0 && ::poll(awaited, 2, -1) < 0 && errno == EINTR) {
    }
  }

  /// Notes the next one again, in place of one that was noted.
  void rearm() {
    char noted = 0;
    [[maybe_unused]] const auto read = ::read(come_, &noted, 1);
    noted_ = 0;
    for (const int number : signals) {
      struct sigaction before {};
      if (::sigaction(number, nullptr, &before) != 0 || before.sa_handler == SIG_IGN) continue;
      struct sigaction noting {};
      noting.sa_handler = note;  // without SA_RESTART: reading the next message ends
      ::sigaction(number, &noting, nullptr);
    }
  }

 private:
  static constexpr std::array signals{SIGINT, SIGTERM, SIGHUP};

  static void restore_defaults() {
    for (const int number : signals) {
      struct sigaction before {};
      if (::sigaction(number, nullptr, &before) == 0 && before.sa_handler == note) ::signal(number, SIG_DFL);
    }
  }
  static void note(int number) {
    noted_ = number;
    restore_defaults();
    const char noted = 0;
    [[maybe_unused]] const auto written = ::write(noted_at_, &noted, 1);
  }

  int come_ = -1;  ///< can be read once a signal was noted, in whichever thread
  // A handler has nothing else to write to.
  static inline volatile std::sig_atomic_t noted_ = 0;
  static inline int noted_at_ = -1;
};

}  // namespace krul::cli
