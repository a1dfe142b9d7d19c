#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "krul/compress/coding_numbers.hpp"
#include "krul/cuda/joint_decoder.hpp"
#include "krul/cuda/row_decoder.hpp"
#include "krul/restore/decodes_chunks.hpp"

namespace krul::cuda {

/// Decodes the chunks of one restore on a device: those of a profile's groups, and those of one layer that krul's row
/// codecs wrote.
template <DeviceApi Device>
class DeviceDecoder {
 public:
  using Cache = DeviceKvCache<Device>;

  /// @param profile  may be null: chunks of groups are not taken then
  /// @throws ResultError if the device has no memory for the rooms
  DeviceDecoder(std::shared_ptr<DecodingRooms<Device>> rooms, std::shared_ptr<const DeviceProfile<Device>> profile,
                const Geometry& geometry)
      : rooms_(std::move(rooms)), rows_(rooms_, geometry) {
    if (profile) joint_.emplace(rooms_, std::move(profile), geometry);
  }

  [[nodiscard]] bool takes(std::uint8_t coding) const noexcept {
    return is_joint(coding) ? joint_.has_value() : RowDecoder<Device>::takes(coding);
  }
  /// @return as JointDecoder and RowDecoder; not_found if the profile has no group that begins with the layer
  /// @throws PreconditionError as they do, and if it does not take the chunk; ResultError if the device fails
  [[nodiscard]] Status decode(const StoredChunk& chunk, Cache& cache) {
    expects(takes(chunk.coding), "DeviceDecoder: there is no kernel for the chunk");
    if (!is_joint(chunk.coding)) return rows_.decode(chunk.coding, chunk.first_layer, chunk.bytes, chunk.tokens, cache);
    const std::size_t group = joint_->profile()->group_at(chunk.first_layer);
    if (group == joint_->profile()->data().groups.size())
      return fail(ErrorCode::not_found, "the profile has no group that begins with the chunk's layer");
    return joint_->decode(group, chunk.bytes, chunk.tokens, chunk.features, cache);
  }
  /// @throws ResultError if the device fails
  void finish() {
    // Which chunks are damaged is seen by the rows that are not there.
    static_cast<void>(rooms_->finish());
  }

 private:
  std::shared_ptr<DecodingRooms<Device>> rooms_;
  std::optional<JointDecoder<Device>> joint_;
  RowDecoder<Device> rows_;
};

}  // namespace krul::cuda
