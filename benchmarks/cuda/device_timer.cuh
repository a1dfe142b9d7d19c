#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <vector>

#include "krul/cuda/cuda_device.cuh"

namespace krul::bench {

/// How long something is measured.
struct TimerLimits {
  double seconds = 0.4;    ///< of measurements, once the fewest are there
  std::size_t fewest = 3;  ///< measurements
  std::size_t most = 200;
};

/// Times what is asked for on a stream of a device, by events: from where the device begins to where it ends, with what
/// it waits for the host in between.
class DeviceTimer {
 public:
  /// @throws ResultError if the device fails, like all here
  explicit DeviceTimer(cuda::CudaDevice::Stream stream) : stream_(std::move(stream)) {
    for (cudaEvent_t* event : {&begin_, &end_}) or_throw(cuda::checked(cudaEventCreate(event), "cudaEventCreate"));
  }
  DeviceTimer(const DeviceTimer&) = delete;
  DeviceTimer& operator=(const DeviceTimer&) = delete;
  ~DeviceTimer() {
    for (cudaEvent_t event : {begin_, end_}) cudaEventDestroy(event);
  }

  [[nodiscard]] cuda::CudaDevice::Stream& stream() noexcept { return stream_; }

  /// Seconds of one call of `run`, the median of several after two that warm up. Short ones are measured many at a
  /// time.
  template <class Run>
  [[nodiscard]] double median_s(Run&& run, const TimerLimits& limits = {}) {
    run();
    const double once = elapsed_s(run, 1);
    const auto at_once = static_cast<std::size_t>(std::clamp(2e-3 / std::max(once, 1e-6), 1.0, 1000.0));
    std::vector<double> found;
    double spent = 0;
    while (found.size() < limits.fewest || (spent < limits.seconds && found.size() < limits.most)) {
      const double taken = elapsed_s(run, at_once);
      spent += taken;
      found.push_back(taken / static_cast<double>(at_once));
    }
    std::ranges::nth_element(found, found.begin() + static_cast<std::ptrdiff_t>(found.size() / 2));
    return found[found.size() / 2];
  }

 private:
  template <class Run>
  double elapsed_s(Run& run, std::size_t times) {
    or_throw(cuda::checked(cudaDeviceSynchronize(), "cudaDeviceSynchronize"));
    or_throw(cuda::checked(cudaEventRecord(begin_, stream_.get()), "cudaEventRecord"));
    for (std::size_t i = 0; i < times; ++i) run();
    or_throw(cuda::checked(cudaEventRecord(end_, stream_.get()), "cudaEventRecord"));
    or_throw(cuda::checked(cudaEventSynchronize(end_), "cudaEventSynchronize"));
    float milliseconds = 0;
    or_throw(cuda::checked(cudaEventElapsedTime(&milliseconds, begin_, end_), "cudaEventElapsedTime"));
    return static_cast<double>(milliseconds) / 1e3;
  }

  cuda::CudaDevice::Stream stream_;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

/// The same by the host's clock, of what ends by waiting for the device itself: several streams at once.
template <class Run>
[[nodiscard]] double median_wall_s(Run&& run, const TimerLimits& limits = {}) {
  using Clock = std::chrono::steady_clock;
  run();
  run();
  std::vector<double> found;
  double spent = 0;
  while (found.size() < limits.fewest || (spent < limits.seconds && found.size() < limits.most)) {
    const auto begin = Clock::now();
    run();
    found.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
    spent += found.back();
  }
  std::ranges::nth_element(found, found.begin() + static_cast<std::ptrdiff_t>(found.size() / 2));
  return found[found.size() / 2];
}

}  // namespace krul::bench
