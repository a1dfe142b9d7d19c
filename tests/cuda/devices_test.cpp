#include "krul/cuda/devices.hpp"

#include <doctest/doctest.h>

using namespace krul;

TEST_CASE("devices are listed, or it is said why there are none") {
  const auto found = cuda::devices();
  if (!found) {
    CHECK((found.error().code == ErrorCode::backend || found.error().code == ErrorCode::unsupported));
    CHECK_FALSE(found.error().message.empty());
    MESSAGE("no device: " << found.error().message);
    return;
  }
  for (const auto& device : *found) {
    CHECK(device.bytes >= device.free_bytes);
    MESSAGE(device.name << ", sm_" << device.major << device.minor << ", " << device.bytes << " bytes");
  }
}
