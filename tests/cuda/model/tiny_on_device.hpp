#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "cuda/ordered_device.hpp"
#include "krul/cuda/device_backend.hpp"
#include "support/tiny_model.hpp"

namespace krul::cuda::test {

using TinyBackend = DeviceBackend<OrderedDevice, KernelProducts<OrderedDevice>>;

/// A tiny model on a device on the host, whose order of operations the seed draws.
struct TinyOnDevice {
  std::vector<std::byte> bytes;
  OrderedDevice device;
  TinyBackend model;

  /// @param left_out  the so-manieth wait that is left out
  TinyOnDevice(const testing::TinyModel& shape, std::uint64_t seed, std::size_t left_out = OrderedDevice::never)
      : bytes(testing::tiny_model(shape)),
        device(seed, left_out),
        model(load(device, file(), ElementType::f32, {}).value()) {}

  [[nodiscard]] GgufFile file() const { return std::move(GgufFile::from_memory(bytes, "tiny.gguf").value()); }

  [[nodiscard]] static Result<TinyBackend> load(OrderedDevice& device, GgufFile file, ElementType type,
                                                DeviceBackendOptions options) {
    options.tokenizer = "tiny";
    return TinyBackend::load(std::move(file), device, device.make_stream().value(),
                             KernelProducts<OrderedDevice>(device, type), options);
  }
};

}  // namespace krul::cuda::test
