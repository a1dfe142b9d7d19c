// What the tests beside this folder say of the host, said of a device that is there.
#include <doctest/doctest.h>

#include "cuda/on_device/first_device.cuh"
#include "cuda/restoring.hpp"
#include "krul/backend/conformance/cache.hpp"

using namespace krul;
using cuda::CudaDevice, cuda::test::first_device, cuda::test::Saved;

TEST_CASE("a CUDA device restores what the processor restores") {
  auto device = first_device();
  if (!device) return;
  const Saved saved;
  for (int round = 0; round < 10; ++round) CHECK(cuda::test::restores(*device, saved));
}

TEST_CASE("a CUDA device's cache is a cache") {
  auto device = first_device();
  if (!device) return;
  const Geometry geometry = testing::profile_geometry();
  const auto ring = std::make_shared<cuda::StagingRing<CudaDevice>>(*device, device->make_stream().value(),
                                                                    cuda::StagingRing<CudaDevice>::Size{.slots = 2});
  const auto report = check_kv_cache(
      [&](std::size_t capacity) { return cuda::DeviceKvCache<CudaDevice>(*device, geometry, capacity, ring); },
      geometry);
  for (const auto& check : report.checks()) CHECK_MESSAGE(check.passed, check.name << ": " << check.detail);
}
