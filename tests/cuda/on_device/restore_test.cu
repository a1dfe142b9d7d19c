// What the tests beside this folder say of the host, said of a device that is there.
#include <doctest/doctest.h>

#include "cuda/engine_pages.hpp"
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

TEST_CASE("a CUDA device restores into pages what the processor restores") {
  auto device = first_device();
  if (!device) return;
  using Ring = cuda::StagingRing<CudaDevice>;
  const Saved saved;
  for (const auto order : {cuda::PageOrder::nhd, cuda::PageOrder::hnd}) {
    const cuda::test::EnginePages<CudaDevice> engine(*device, saved.geometry, {.pages = 8, .order = order});
    cuda::test::Restoring<CudaDevice, cuda::PagedKvCache<CudaDevice>> restoring(
        *device, saved,
        [&](const std::shared_ptr<Ring>& ring) { return engine.cache(*device, saved.geometry, ring, 20); });
    CHECK(cuda::test::restores_all(restoring, saved));
  }
}

TEST_CASE("a CUDA device's cache of pages is a cache") {
  auto device = first_device();
  if (!device) return;
  const Geometry geometry = testing::profile_geometry();
  const auto ring = std::make_shared<cuda::StagingRing<CudaDevice>>(*device, device->make_stream().value(),
                                                                    cuda::StagingRing<CudaDevice>::Size{.slots = 2});
  for (const auto order : {cuda::PageOrder::nhd, cuda::PageOrder::hnd}) {
    const cuda::test::EnginePages<CudaDevice> engine(*device, geometry, {.pages = 4, .order = order});
    const auto report = check_kv_cache([&](std::size_t) { return engine.cache(*device, geometry, ring, 8); }, geometry);
    for (const auto& check : report.checks()) CHECK_MESSAGE(check.passed, check.name << ": " << check.detail);
  }
}
