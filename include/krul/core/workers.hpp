#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "krul/core/error.hpp"

namespace krul {

/// A fixed team of threads that the caller owns and joins: `threads` - 1 of its own and the calling one.
/// Idle workers spin for some microseconds and then sleep, so that short parallel loops follow one another cheaply.
class Workers {
 public:
  /// @throws PreconditionError if threads is 0
  /// @throws std::system_error if the system has no more threads
  explicit Workers(std::size_t threads) : threads_(threads) {
    expects(threads > 0, "Workers: at least one thread");
    try {
      for (std::size_t worker = 1; worker < threads; ++worker)
        team_.emplace_back([this, worker](std::stop_token stop) { serve(worker, stop); });
    } catch (...) {
      dismiss();
      throw;
    }
  }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;
  ~Workers() { dismiss(); }

  [[nodiscard]] std::size_t threads() const noexcept { return threads_; }

  /// Calls task(index, worker) once for every index in [0, count), in any order; returns when all are done.
  /// Tasks are handed out one by one, so a busy core takes fewer. Calls from several threads queue up.
  /// The task must not call parallel_for on the same Workers.
  /// @post   every index was visited, even where tasks threw
  /// @throws what the first task threw that did, whichever thread ran it; the team is as good as before
  template <class Task>
  void parallel_for(std::size_t count, Task&& task) {
    if (count == 0) return;
    const std::lock_guard lock(mutex_);
    using Plain = std::remove_reference_t<Task>;
    task_ = const_cast<void*>(static_cast<const void*>(std::addressof(task)));
    call_ = [](void* context, std::size_t index, std::size_t worker) {
      (*static_cast<Plain*>(context))(index, worker);
    };
    count_ = count;
    next_.store(0, std::memory_order_relaxed);
    if (threads_ == 1 || count == 1) {
      take(0);
      throw_failure();
      return;
    }
    busy_.store(threads_ - 1, std::memory_order_relaxed);
    round_.fetch_add(1, std::memory_order_release);
    round_.notify_all();
    take(0);
    for (int spin = 0; busy_.load(std::memory_order_acquire) != 0; ++spin) {
      if (spin < spins) {
        pause();
      } else {  // a worker lost its core to another program: let that one go on
        std::this_thread::yield();
      }
    }
    throw_failure();
  }

 private:
  static void pause() noexcept {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }

  static constexpr int spins = 4000;  // some tens of microseconds

  void take(std::size_t worker) {
    for (std::size_t index; (index = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) try {
        call_(task_, index, worker);
      } catch (...) {
        const std::lock_guard lock(failure_mutex_);
        if (!failure_) failure_ = std::current_exception();
      }
  }

  /// Once all have ended.
  void throw_failure() {
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  }

  void dismiss() noexcept {
    for (auto& thread : team_) thread.request_stop();
    round_.fetch_add(1);
    round_.notify_all();
  }

  void serve(std::size_t worker, const std::stop_token& stop) {
    std::uint64_t seen = 0;
    while (true) {
      for (int spin = 0; spin < spins && round_.load(std::memory_order_acquire) == seen; ++spin) pause();
      round_.wait(seen, std::memory_order_acquire);
      if (stop.stop_requested()) return;
      seen = round_.load(std::memory_order_acquire);
      take(worker);
      busy_.fetch_sub(1, std::memory_order_release);
    }
  }

  std::size_t threads_;
  std::mutex mutex_;
  void* task_ = nullptr;
  void (*call_)(void*, std::size_t, std::size_t) = nullptr;
  std::size_t count_ = 0;
  std::atomic<std::size_t> next_{0};
  std::atomic<std::size_t> busy_{0};
  std::atomic<std::uint64_t> round_{0};
  std::mutex failure_mutex_;
  std::exception_ptr failure_;  ///< the first one of this round
  std::vector<std::jthread> team_;
};

}  // namespace krul
