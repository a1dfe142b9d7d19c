#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "krul/compress/joint/block_rotation.hpp"
#include "krul/compress/joint/joint_chunk.hpp"
#include "krul/core/finite.hpp"
#include "krul/core/identity.hpp"
#include "krul/cuda/chunk_layout.hpp"
#include "krul/cuda/decoding_rooms.hpp"
#include "krul/cuda/device_cache.hpp"
#include "krul/cuda/device_profile.hpp"
#include "krul/cuda/kernels/decode_symbols.hpp"
#include "krul/cuda/kernels/joint_rows.hpp"
#include "krul/cuda/touching.hpp"

namespace krul::cuda {

/// Brings chunks of groups of layers back on a device, straight into a cache's rows or pages, to the bits that the
/// processor's decoder gives. Coded bytes cross the link, rows never do.
template <DeviceApi Device>
class JointDecoder {
 public:
  /// @throws PreconditionError if the profile is another model's; ResultError if the device fails
  JointDecoder(std::shared_ptr<DecodingRooms<Device>> rooms, std::shared_ptr<const DeviceProfile<Device>> profile,
               const Geometry& geometry)
      : geometry_(geometry), rooms_(std::move(rooms)), profile_(std::move(profile)) {
    expects(profile_->profile()->data().geometry == describe(geometry), "JointDecoder: the profile is another model's");
    or_throw(rooms_->device().wait(rooms_->stream(), profile_->ready()));
  }

  [[nodiscard]] const std::shared_ptr<const Profile>& profile() const noexcept { return profile_->profile(); }

  /// Asks for the rows of a chunk. They count as present once `DecodingRooms::finish` has found the chunk sound; until
  /// then the cache must stay where it is.
  /// @param rows      of the cache that the chunk is of
  /// @param features  [rows, F] of their tokens, as the profile asks for
  /// @return as JointChunk::read; too_large if the chunk does not fit a room; unsupported if the features are missing;
  ///         corrupt if a row that it holds as it was is not finite
  /// @throws PreconditionError if the cache has no such rows; ResultError if the device fails
  template <DeviceCache<Device> Cache>
  [[nodiscard]] Status decode(std::size_t group, std::span<const std::byte> bytes, TokenRange rows,
                              std::span<const float> features, Cache& cache) {
    const Profile& profile = *profile_->profile();
    expects(rows.end <= cache.capacity() && cache.layers() == geometry_.layers &&
                cache.row_bytes() == geometry_.kv_row_bytes(),
            "JointDecoder: the cache has no such rows");
    const auto chunk = JointChunk::read(profile, group, geometry_, bytes, rows);
    if (!chunk) return propagate(chunk);
    if (features.size() != rows.size() * profile.data().features)
      return fail(ErrorCode::unsupported, "the features of the tokens are missing: recompute these tokens");
    if (!are_finite(geometry_.cache_type, chunk->first_row))
      return fail(ErrorCode::corrupt, "the first row of a chunk is not finite: recompute these tokens");
    const GroupTransform& layers = profile.data().groups[group];
    ChunkTarget target{.room = rooms_->next(),
                       .tensors = {&profile_->tensor(group, 0), &profile_->tensor(group, 1)},
                       .tables = profile_->tables(),
                       .table_count = static_cast<std::uint32_t>(profile.tables().alias_tables().size()),
                       .places = cache.places(rows.begin)};
    std::vector<TouchedBytes> written;
    for (std::size_t layer = layers.first_layer; layer < layers.first_layer + layers.layers; ++layer) {
      target.rows[0].push_back(cache.keys(layer));
      target.rows[1].push_back(cache.values(layer));
      cache.touched(layer, rows, [&](const TouchedBytes& each) { written.push_back(each); });
    }
    const auto layout = ChunkLayout::of(*chunk, target, geometry_, static_cast<Position>(rows.begin), features);
    if (auto status = rooms_->fill(layout.arrays_at, layout.arrays, layout.bytes); !status) return status;
    cache.begin(Rows::decoded, rooms_->stream());
    run(layout, {target.room, layout.bytes, true}, std::move(written));
    cache.end(Rows::decoded, rooms_->stream());
    rooms_->asked(layout.verdict, [&cache, rows, first = layers.first_layer, count = layers.layers] {
      for (std::size_t layer = first; layer < first + count; ++layer) cache.mark_present(layer, rows);
    });
    if (chunk->has_first_row) write_first_row(*chunk, layers, cache);
    return {};
  }

 private:
  template <class Cache>
  void write_first_row(const JointChunk& chunk, const GroupTransform& layers, Cache& cache) const {
    const std::size_t row_bytes = geometry_.kv_row_bytes();
    for (std::size_t layer = 0; layer < layers.layers; ++layer) {
      const auto row = [&](std::size_t tensor) {
        return std::span(chunk.first_row).subspan((2 * layer + tensor) * row_bytes, row_bytes);
      };
      cache.write_kv(layers.first_layer + layer, {0, 1}, {row(0), row(1)});
    }
  }

  /// @param written  rows of the group's layers
  void run(const ChunkLayout& layout, const TouchedBytes& room, std::vector<TouchedBytes> written) {
    const std::array within{room, profile_->memory()};
    written.push_back(room);
    Device& device = rooms_->device();
    const auto launch = [&](const auto& kernel, const Launch& how) {
      or_throw(device.launch(rooms_->stream(), Touching{kernel, std::span<const TouchedBytes>(within)}, how));
    };
    launch(layout.symbols, {1, warp_lanes});
    for (std::size_t side = 0; side < 2; ++side) {
      const StoreRows& store = layout.sides[side];
      const unsigned rows = store.side.rows;
      if (rows == 0) continue;
      if (layout.predictions[side].rows > 0) launch(layout.predictions[side], {rows, 128});
      launch(DequantiseRows{store.side}, {rows, 128});
      launch(RoundRows{store.side}, {(rows + 3) / 4, 4 * warp_lanes});
      launch(SynthesiseRows{store.side}, {rows, 256});
      or_throw(device.launch(rooms_->stream(), Touching{store, std::span<const TouchedBytes>(written)}, {rows, 128}));
    }
  }

  Geometry geometry_;
  std::shared_ptr<DecodingRooms<Device>> rooms_;
  std::shared_ptr<const DeviceProfile<Device>> profile_;
};

}  // namespace krul::cuda
