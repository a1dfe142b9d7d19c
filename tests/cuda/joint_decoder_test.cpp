#include "krul/cuda/joint_decoder.hpp"

#include <doctest/doctest.h>

#include "cuda/ordered_device.hpp"
#include "krul/backend/host_kv_cache.hpp"
#include "krul/backend/owned_kv_rows.hpp"
#include "krul/compress/joint_transform.hpp"
#include "support/profile_samples.hpp"

using namespace krul;
using namespace krul::testing;
using cuda::test::OrderedDevice, cuda::test::Unordered;

namespace {

using Cache = cuda::DeviceKvCache<OrderedDevice>;
using Ring = cuda::StagingRing<OrderedDevice>;
using Decoder = cuda::JointDecoder<OrderedDevice>;

constexpr std::size_t block = 20, tokens = 3 * block;

/// A conversation that was coded, in blocks of two groups of layers.
struct Saved {
  Geometry geometry = profile_geometry(ElementType::f16, RotaryPairs::halves);
  std::shared_ptr<const Profile> profile;
  std::vector<float> features;                              // [T, F]
  std::vector<std::vector<std::vector<std::byte>>> chunks;  // [groups][blocks]
  std::vector<OwnedKvRows> rows;                            // [L] as the processor decodes them

  Saved() {
    std::mt19937_64 random(31);
    std::normal_distribution<float> normal;
    profile = Profile::create(random_profile(geometry, {1, 3}, 9, geometry.hidden, 31), geometry).value();
    for (std::size_t i = 0; i < tokens * geometry.hidden; ++i) features.push_back(normal(random));
    std::vector<float> values(tokens * geometry.kv_values());
    for (std::size_t layer = 0; layer < geometry.layers; ++layer) {
      auto& of = rows.emplace_back(geometry, tokens);
      for (auto* to : {&of.keys, &of.values}) {
        for (float& value : values) value = normal(random);
        from_float(geometry.cache_type, values, *to);
      }
    }
    std::vector<std::uint8_t> classes(block);
    for (std::uint8_t& each : classes) each = static_cast<std::uint8_t>(4 + random() % 8);
    for (std::size_t group = 0; group < 2; ++group) {
      auto& of_group = chunks.emplace_back();
      const JointTransform coding(profile, group, StepScale{-8});
      for (std::size_t begin = 0; begin < tokens; begin += block) {
        std::vector<KvRows> from;
        std::vector<MutableKvRows> to;
        for (std::size_t layer = 0; layer < profile->data().groups[group].layers; ++layer) {
          to.push_back(range(profile->data().groups[group].first_layer + layer, begin));
          from.push_back({to.back().keys, to.back().values});
        }
        const BlockContext context{static_cast<Position>(begin), features_of(begin), classes};
        of_group.push_back(coding.encode(geometry, from, context));
        REQUIRE(coding.decode(geometry, of_group.back(), to, context));
      }
    }
  }
  [[nodiscard]] std::span<const float> features_of(std::size_t begin) const {
    return std::span(features).subspan(begin * geometry.hidden, block * geometry.hidden);
  }
  [[nodiscard]] MutableKvRows range(std::size_t layer, std::size_t begin) {
    const std::size_t row = geometry.kv_row_bytes();
    return {std::span(rows[layer].keys).subspan(begin * row, block * row),
            std::span(rows[layer].values).subspan(begin * row, block * row)};
  }
};

/// A device with a profile, a cache and a decoder.
struct Restoring {
  std::shared_ptr<Ring> ring;
  Cache cache;
  Decoder decoder;

  Restoring(OrderedDevice& device, const Saved& saved, std::size_t room_bytes = 1 << 17)
      : ring(std::make_shared<Ring>(device, device.make_stream().value(), Ring::Size{.slots = 3, .slot_bytes = 4096})),
        cache(device, saved.geometry, tokens, ring),
        decoder(device, ring, std::make_shared<cuda::DeviceProfile<OrderedDevice>>(device, *ring, saved.profile),
                saved.geometry, {.rooms = 2, .room_bytes = room_bytes}) {}

  [[nodiscard]] Status decode(const Saved& saved, std::size_t group, std::size_t begin,
                              std::span<const std::byte> bytes) {
    return decoder.decode(group, bytes, {begin, begin + block}, saved.features_of(begin), cache);
  }
  [[nodiscard]] Status decode_all(const Saved& saved) {
    for (std::size_t at = 0; at < tokens / block; ++at)
      for (std::size_t group = 0; group < 2; ++group)
        if (auto status = decode(saved, group, at * block, saved.chunks[group][at]); !status) return status;
    return decoder.finish();
  }
};

/// Restores all of it.
/// @return whether the rows are those that the processor decodes
bool restores(OrderedDevice& device, const Saved& saved) {
  Restoring restoring(device, saved);
  bool same = restoring.decode_all(saved).has_value();
  restoring.cache.commit(tokens);
  for (std::size_t layer = 0; layer < saved.geometry.layers; ++layer) {
    OwnedKvRows rows(saved.geometry, tokens);
    restoring.cache.wait(restoring.cache.read_kv(layer, {0, tokens}, rows.view()));
    same = same && rows.keys == saved.rows[layer].keys && rows.values == saved.rows[layer].values;
  }
  device.finish();
  return same;
}

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
  CHECK(missed + 6 >= counted.waits());
}

TEST_CASE("a damaged chunk is found, and what does not fit is refused") {
  const Saved saved;
  OrderedDevice device(5);
  Restoring restoring(device, saved);
  auto damaged = saved.chunks[1][1];
  damaged.back() ^= std::byte{64};
  REQUIRE(restoring.decode(saved, 1, block, damaged));
  const auto status = restoring.decoder.finish();
  REQUIRE_FALSE(status);
  CHECK((status.error().code == ErrorCode::corrupt || status.error().code == ErrorCode::truncated));
  CHECK(restoring.decoder.finish());  // that was all
  CHECK(restoring.cache.length() == 0);

  damaged.resize(6);
  CHECK(restoring.decode(saved, 1, block, damaged).error().code == ErrorCode::truncated);
  CHECK(restoring.decoder.decode(0, saved.chunks[0][1], {block, 2 * block}, {}, restoring.cache).error().code ==
        ErrorCode::unsupported);
  CHECK_THROWS_AS(static_cast<void>(restoring.decode(saved, 0, tokens, saved.chunks[0][1])), PreconditionError);
  Restoring small(device, saved, 1000);
  CHECK(small.decode(saved, 0, block, saved.chunks[0][1]).error().code == ErrorCode::too_large);
  CHECK_THROWS_AS(Decoder(device, restoring.ring, nullptr, saved.geometry, {.rooms = 0}), PreconditionError);
}
