#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "krul/compress/coding_numbers.hpp"
#include "krul/compress/decodes_chunks.hpp"
#include "krul/cuda/joint_decoder.hpp"
#include "krul/cuda/pair_decoder.hpp"
#include "krul/cuda/row_decoder.hpp"

namespace krul::cuda {

/// Decodes the chunks of one restore on a device: those of a profile's groups, and those of one layer or of a pair of
/// layers that krul's row codecs wrote.
template <DeviceApi Device>
class DeviceDecoder {
 public:
  using Cache = DeviceKvCache<Device>;

  /// @param profile  may be null: chunks of groups are not taken then
  /// @throws ResultError if the device has no memory for the rooms
  DeviceDecoder(std::shared_ptr<DecodingRooms<Device>> rooms, std::shared_ptr<const DeviceProfile<Device>> profile,
                const Geometry& geometry)
      : rooms_(std::move(rooms)), rows_(rooms_, geometry), pairs_(rooms_, geometry) {
    if (profile) joint_.emplace(rooms_, std::move(profile), geometry);
  }

  [[nodiscard]] bool takes(std::uint8_t coding) const noexcept {
    return is_joint(coding) ? joint_.has_value()
                            : RowDecoder<Device>::takes(coding) || PairDecoder<Device>::takes(coding);
  }
  /// @return as JointDecoder, RowDecoder and PairDecoder; corrupt if the coding is not one of so many layers; not_found
  ///         if the profile has no group of these layers
  /// @throws PreconditionError as they do, and if it does not take the chunk; ResultError if the device fails
  [[nodiscard]] Status decode(const StoredChunk& chunk, Cache& cache) {
    expects(takes(chunk.coding), "DeviceDecoder: there is no kernel for the chunk");
    if (is_joint(chunk.coding)) return decode_group(chunk, cache);
    const bool is_pair = PairDecoder<Device>::takes(chunk.coding);
    // How many layers name a chunk is for whoever wrote the manifest to say.
    if (chunk.layers.size() != (is_pair ? 2 : 1))
      return fail(ErrorCode::corrupt, "a chunk's coding is of another number of layers: recompute these tokens");
    if (is_pair)
      return pairs_.decode(chunk.coding, {chunk.layers[0], chunk.layers[1]}, chunk.bytes, chunk.tokens, cache);
    return rows_.decode(chunk.coding, chunk.layers[0], chunk.bytes, chunk.tokens, cache);
  }
  /// @throws ResultError if the device fails
  void finish() {
    // Which chunks are damaged is seen by the rows that are not there.
    static_cast<void>(rooms_->finish());
  }

 private:
  [[nodiscard]] Status decode_group(const StoredChunk& chunk, Cache& cache) {
    const auto& groups = joint_->profile()->data().groups;
    const std::size_t first = chunk.layers.empty() ? 0 : chunk.layers.front();
    const std::size_t group = joint_->profile()->group_at(first);
    if (group == groups.size() || chunk.layers.size() != groups[group].layers ||
        chunk.layers.back() != first + groups[group].layers - 1)
      return fail(ErrorCode::not_found, "the profile has no group of the chunk's layers");
    return joint_->decode(group, chunk.bytes, chunk.tokens, chunk.features, cache);
  }

  std::shared_ptr<DecodingRooms<Device>> rooms_;
  std::optional<JointDecoder<Device>> joint_;
  RowDecoder<Device> rows_;
  PairDecoder<Device> pairs_;
};

}  // namespace krul::cuda
