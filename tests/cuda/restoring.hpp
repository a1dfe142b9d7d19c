#pragma once

#include <concepts>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "krul/backend/owned_kv_rows.hpp"
#include "krul/compress/joint_transform.hpp"
#include "krul/cuda/device_kv_cache.hpp"
#include "krul/cuda/joint_decoder.hpp"
#include "support/profile_samples.hpp"

namespace krul::cuda::test {

/// A conversation that was coded, in blocks of two groups of layers.
struct Saved {
  static constexpr std::size_t block = 20, tokens = 3 * block;

  Geometry geometry;
  std::shared_ptr<const Profile> profile;
  std::vector<float> features;                              // [T, F]
  std::vector<std::vector<std::vector<std::byte>>> chunks;  // [groups][blocks]
  std::vector<OwnedKvRows> rows;                            // [L] as the processor decodes them

  explicit Saved(ElementType type = ElementType::f16) : geometry(testing::profile_geometry(type, RotaryPairs::halves)) {
    std::mt19937_64 random(31);
    std::normal_distribution<float> normal;
    profile = Profile::create(testing::random_profile(geometry, {1, 3}, 9, geometry.hidden, 31), geometry).value();
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
        or_throw(coding.decode(geometry, of_group.back(), to, context));
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
template <DeviceApi Device, class Cache = DeviceKvCache<Device>>
struct Restoring {
  using Ring = StagingRing<Device>;

  std::shared_ptr<Ring> ring;
  Cache cache;
  std::shared_ptr<DecodingRooms<Device>> rooms;
  JointDecoder<Device> decoder;

  Restoring(Device& device, const Saved& saved, std::size_t room_bytes = 1 << 17)
      : Restoring(
            device, saved,
            [&](const std::shared_ptr<Ring>& copies) { return Cache(device, saved.geometry, Saved::tokens, copies); },
            room_bytes) {}
  /// @param make  make(ring) returns the cache
  template <std::invocable<const std::shared_ptr<Ring>&> Make>
  Restoring(Device& device, const Saved& saved, Make&& make, std::size_t room_bytes = 1 << 17)
      : ring(std::make_shared<Ring>(device, device.make_stream().value(),
                                    typename Ring::Size{.slots = 3, .slot_bytes = 4096})),
        cache(make(ring)),
        rooms(std::make_shared<DecodingRooms<Device>>(
            device, ring, typename DecodingRooms<Device>::Size{.rooms = 2, .room_bytes = room_bytes})),
        decoder(rooms, std::make_shared<DeviceProfile<Device>>(device, *ring, saved.profile), saved.geometry) {}

  [[nodiscard]] Status decode(const Saved& saved, std::size_t group, std::size_t begin,
                              std::span<const std::byte> bytes) {
    return decoder.decode(group, bytes, {begin, begin + Saved::block}, saved.features_of(begin), cache);
  }
  [[nodiscard]] Status decode_all(const Saved& saved) {
    for (std::size_t at = 0; at < Saved::tokens / Saved::block; ++at)
      for (std::size_t group = 0; group < 2; ++group)
        if (auto status = decode(saved, group, at * Saved::block, saved.chunks[group][at]); !status) return status;
    return rooms->finish();
  }
};

/// Restores all of it.
/// @return whether the rows are those that the processor decodes
template <DeviceApi Device, class Cache>
[[nodiscard]] bool restores_all(Restoring<Device, Cache>& restoring, const Saved& saved) {
  bool same = restoring.decode_all(saved).has_value();
  restoring.cache.commit(Saved::tokens);
  for (std::size_t layer = 0; layer < saved.geometry.layers; ++layer) {
    OwnedKvRows rows(saved.geometry, Saved::tokens);
    restoring.cache.wait(restoring.cache.read_kv(layer, {0, Saved::tokens}, rows.view()));
    same = same && rows.keys == saved.rows[layer].keys && rows.values == saved.rows[layer].values;
  }
  return same;
}
template <DeviceApi Device>
[[nodiscard]] bool restores(Device& device, const Saved& saved) {
  Restoring<Device> restoring(device, saved);
  return restores_all(restoring, saved);
}

}  // namespace krul::cuda::test
