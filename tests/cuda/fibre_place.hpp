#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <vector>

#include "cuda/fibre_grid.hpp"

namespace krul::cuda::test {

/// Where a test's kernels run and their memory lies: on the host, as fibres. A device's place has the same functions.
class FibrePlace {
 public:
  explicit FibrePlace(std::uint64_t seed) : seed_(seed) {}

  /// What kernels read.
  template <class T>
  [[nodiscard]] const T* give(const std::vector<T>& values) const {
    return values.data();
  }
  /// What they write; it begins as NaNs.
  [[nodiscard]] float* room(std::size_t floats) {
    return rooms_.emplace_back(floats, std::numeric_limits<float>::quiet_NaN()).data();
  }
  [[nodiscard]] std::vector<float> take(const float* room, std::size_t floats) const { return {room, room + floats}; }

  template <class Kernel>
  void run(const Kernel& kernel, const Launch& launch) const {
    run_grid(kernel, launch, seed_);
  }

 private:
  std::uint64_t seed_;
  std::deque<std::vector<float>> rooms_;
};

}  // namespace krul::cuda::test
