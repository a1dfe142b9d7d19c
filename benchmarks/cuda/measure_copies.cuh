#pragma once

#include <memory>
#include <string>
#include <vector>

#include "device_timer.cuh"
#include "krul/cuda/staging_ring.hpp"
#include "result_table.hpp"

namespace krul::bench {

/// The fastest that copies were.
struct CopyRates {
  double to_device = 0, from_device = 0;  ///< bytes/s over the link, from and to pinned memory
  double memory = 0;                      ///< bytes/s that the device's memory reads and writes in a copy within it
};

/// Copies between pinned memory and the device, the same through a StagingRing from and to any memory, and within the
/// device.
[[nodiscard]] inline CopyRates measure_copies(cuda::CudaDevice& device, ResultTable& table) {
  constexpr std::size_t most = std::size_t{256} << 20;
  const auto on_device = or_throw(device.allocate(2 * most));
  CopyRates rates;
  DeviceTimer timer(or_throw(device.make_stream()));
  const auto add = [&](const char* how, const char* direction, std::size_t bytes, double seconds) {
    const double rate = static_cast<double>(bytes) / seconds;
    table.add({how, direction, std::to_string(bytes), number_text(seconds * 1e6), number_text(rate / 1e9)});
    return rate;
  };

  const double memory_s = timer.median_s([&] {
    or_throw(device.copy(timer.stream(), {on_device.data() + most, on_device.data(), most}));
  });
  rates.memory = 2 * add("within", "read and written", most, memory_s);
  {
    const auto pinned = or_throw(device.pin(most));
    for (const std::size_t bytes : {std::size_t{64} << 10, std::size_t{1} << 20, std::size_t{16} << 20, most})
      for (const bool to_device : {true, false}) {
        const cuda::CopiedBytes copy{to_device ? on_device.data() : pinned.data(),
                                     to_device ? pinned.data() : on_device.data(), bytes};
        const double seconds = timer.median_s([&] { or_throw(device.copy(timer.stream(), copy)); });
        const double rate = add("pinned", to_device ? "to device" : "from device", bytes, seconds);
        double& best = to_device ? rates.to_device : rates.from_device;
        best = std::max(best, rate);
      }
  }
  cuda::StagingRing<cuda::CudaDevice> ring(device, timer.stream(), {});
  std::vector<std::byte> host(most, std::byte{1});
  for (const std::size_t bytes : {std::size_t{64} << 10, std::size_t{1} << 20, std::size_t{16} << 20, most}) {
    const auto some = std::span(host).first(bytes);
    const double to_s = timer.median_s([&] { ring.to_device(on_device.data(), some); });
    const double from_s = median_wall_s([&] {
      ring.from_device(some, on_device.data());
      ring.finish_reads();
    });
    add("ring", "to device", bytes, to_s);
    add("ring", "from device", bytes, from_s);
  }
  return rates;
}

}  // namespace krul::bench
