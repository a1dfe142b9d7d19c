#include "krul/cuda/joint_decoder.hpp"

#include <doctest/doctest.h>

#include "cuda/ordered_device.hpp"
#include "cuda/restoring.hpp"

using namespace krul;
using cuda::test::OrderedDevice, cuda::test::Unordered, cuda::test::Saved, cuda::test::restores;

namespace {

using Restoring = cuda::test::Restoring<OrderedDevice>;
using Cache = cuda::DeviceKvCache<OrderedDevice>;

}  // namespace

TEST_CASE("what a device restores is what the processor restores, in every order of streams") {
  const Saved saved;
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    OrderedDevice device(seed);
    CHECK(restores(device, saved));
  }
}

TEST_CASE("a wait of a restore that is left out is missed, or others say the same") {
  const Saved saved;
  OrderedDevice counted(1);
  REQUIRE(restores(counted, saved));
  std::size_t missed = 0;
  for (std::size_t left_out = 0; left_out < counted.waits(); ++left_out) {
    CAPTURE(left_out);
    OrderedDevice device(1, left_out);
    try {
      const bool same = restores(device, saved);
      CHECK(same);  // a copy of the first row's chunk orders the next chunk, too
    } catch (const Unordered&) {
      ++missed;
    }
  }
  CHECK(missed + 7 >= counted.waits());
}

TEST_CASE("a damaged chunk is found, and what does not fit is refused") {
  const Saved saved;
  OrderedDevice device(5);
  Restoring restoring(device, saved);
  auto damaged = saved.chunks[1][1];
  damaged.back() ^= std::byte{64};
  REQUIRE(restoring.decode(saved, 1, Saved::block, damaged));
  const auto status = restoring.rooms->finish();
  REQUIRE_FALSE(status);
  CHECK((status.error().code == ErrorCode::corrupt || status.error().code == ErrorCode::truncated));
  CHECK(restoring.rooms->finish());  // that was all
  // Others that take its room do not hide it, and are decoded.
  REQUIRE(restoring.decode(saved, 1, Saved::block, damaged));
  for (std::size_t at = 0; at < 3; ++at) REQUIRE(restoring.decode(saved, 0, at * Saved::block, saved.chunks[0][at]));
  CHECK_FALSE(restoring.rooms->finish());
  CHECK(restoring.rooms->finish());
  CHECK(restoring.cache.length() == 0);

  damaged.resize(6);
  CHECK(restoring.decode(saved, 1, Saved::block, damaged).error().code == ErrorCode::truncated);
  CHECK(restoring.decoder.decode(0, saved.chunks[0][1], {Saved::block, 2 * Saved::block}, {}, restoring.cache)
            .error()
            .code == ErrorCode::unsupported);
  CHECK_THROWS_AS(static_cast<void>(restoring.decode(saved, 0, Saved::tokens, saved.chunks[0][1])), PreconditionError);
  auto other = saved.geometry;
  other.layers = 3;
  Cache smaller(device, other, Saved::tokens, restoring.ring);
  CHECK_THROWS_AS(static_cast<void>(restoring.decoder.decode(0, saved.chunks[0][1], {Saved::block, 2 * Saved::block},
                                                             saved.features_of(Saved::block), smaller)),
                  PreconditionError);
  const auto uploaded = std::make_shared<cuda::DeviceProfile<OrderedDevice>>(device, *restoring.ring, saved.profile);
  CHECK_THROWS_AS(cuda::JointDecoder<OrderedDevice>(restoring.rooms, uploaded, other), PreconditionError);
  Restoring small(device, saved, 1000);
  CHECK(small.decode(saved, 0, Saved::block, saved.chunks[0][1]).error().code == ErrorCode::too_large);
  CHECK_THROWS_AS(cuda::DecodingRooms<OrderedDevice>(device, restoring.ring, {.rooms = 0}), PreconditionError);
}
