#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "krul/compress/joint/profile.hpp"
#include "krul/cuda/device_room.hpp"
#include "krul/cuda/kernels/signed_panels.hpp"
#include "krul/cuda/staging_ring.hpp"

namespace krul::cuda {

/// One tensor of one group, as Profile::Tensor, in a device's memory.
struct DeviceTensor {
  const float *scales, *prediction_scales, *wide_synthesis;
  SignedPanels synthesis, prediction;
  std::uint32_t values;  ///< n
};

/// What decoding wants of a profile, in a device's memory: copied once, for all conversations of a model.
template <DeviceApi Device>
class DeviceProfile {
 public:
  /// @throws ResultError if the device has no memory for it
  DeviceProfile(Device& device, StagingRing<Device>& ring, std::shared_ptr<const Profile> profile)
      : profile_(std::move(profile)), memory_(or_throw(device.allocate(bytes_of(*profile_)))) {
    DeviceRoom room(memory_.data());
    fill(*profile_, room, tables_, tensors_);
    ring.to_device(memory_.data(), room.filled());
    bytes_ = room.size();
    ready_ = or_throw(device.record(ring.stream()));
  }

  [[nodiscard]] const std::shared_ptr<const Profile>& profile() const noexcept { return profile_; }
  /// K (0) or V (1) of a group.
  [[nodiscard]] const DeviceTensor& tensor(std::size_t group, std::size_t side) const {
    return tensors_.at(2 * group + side);
  }
  /// After which it is all there, and where.
  [[nodiscard]] const typename Device::Event& ready() const noexcept { return *ready_; }
  [[nodiscard]] TouchedBytes memory() const noexcept { return {memory_.data(), bytes_, false}; }
  [[nodiscard]] const krul::detail::AliasTable* tables() const noexcept { return tables_; }

 private:
  static SignedPanels add(const Int8Panels& panels, DeviceRoom& room) {
    std::vector<std::uint32_t> words(panels.panels() * panels.quads() * Int8Panels::width);
    for (std::size_t i = 0; i < words.size(); ++i) words[i] = panels.panel(0)[i] ^ 0x80808080U;
    const std::size_t columns = panels.panels() * Int8Panels::width;
    return {room.add(words), room.add(std::span(panels.scales(), columns)),
            room.add(std::span(panels.offsets(), columns)), static_cast<std::uint32_t>(panels.quads())};
  }
  static void fill(const Profile& profile, DeviceRoom& room, const krul::detail::AliasTable*& tables,
                   std::vector<DeviceTensor>& tensors) {
    tables = room.add(profile.tables().alias_tables());
    for (std::size_t i = 0; i < 2 * profile.data().groups.size(); ++i) {
      const Profile::Tensor& from = i % 2 == 0 ? profile.keys(i / 2) : profile.values(i / 2);
      tensors.push_back({.scales = room.add(from.scales),
                         .prediction_scales = room.add(from.prediction_scales),
                         .wide_synthesis = room.add(from.wide_synthesis),
                         .synthesis = add(from.synthesis, room),
                         .prediction = add(from.prediction, room),
                         .values = static_cast<std::uint32_t>(from.mean.size())});
    }
  }
  [[nodiscard]] static std::size_t bytes_of(const Profile& profile) {
    DeviceRoom room(nullptr);
    const krul::detail::AliasTable* tables = nullptr;
    std::vector<DeviceTensor> tensors;
    fill(profile, room, tables, tensors);
    return room.size();
  }

  std::shared_ptr<const Profile> profile_;
  typename Device::Memory memory_;
  std::size_t bytes_ = 0;
  std::optional<typename Device::Event> ready_;
  const krul::detail::AliasTable* tables_ = nullptr;
  std::vector<DeviceTensor> tensors_;  // [groups, K and V]
};

}  // namespace krul::cuda
