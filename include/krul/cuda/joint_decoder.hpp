#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/compress/entropy/detail/decode_status.hpp"
#include "krul/compress/joint/block_rotation.hpp"
#include "krul/compress/joint/joint_chunk.hpp"
#include "krul/core/identity.hpp"
#include "krul/cuda/chunk_layout.hpp"
#include "krul/cuda/device_cache.hpp"
#include "krul/cuda/device_profile.hpp"
#include "krul/cuda/kernels/decode_symbols.hpp"
#include "krul/cuda/kernels/joint_rows.hpp"
#include "krul/cuda/touching.hpp"

namespace krul::cuda {

/// Brings chunks of groups of layers back on a device: coded bytes cross the link, rows never do.
///
/// A chunk is copied into one of a few rooms of the device's memory and decoded there by a stream of its own, straight
/// into the cache's rows or pages, to the bits that the processor's decoder gives. Nothing waits but a chunk for a free
/// room.
template <DeviceApi Device>
class JointDecoder {
 public:
  struct Size {
    std::size_t rooms = 2;                           ///< chunks that are copied and decoded at once
    std::size_t room_bytes = std::size_t{16} << 20;  ///< of each
  };

  /// @param device  kept by reference
  /// @throws ResultError if the device has no memory for the rooms; PreconditionError if there are none, or the profile
  ///         is another model's
  JointDecoder(Device& device, std::shared_ptr<StagingRing<Device>> ring,
               std::shared_ptr<const DeviceProfile<Device>> profile, const Geometry& geometry, const Size& size)
      : device_(&device),
        geometry_(geometry),
        ring_(std::move(ring)),
        profile_(std::move(profile)),
        room_bytes_(size.room_bytes),
        stream_(or_throw(device.make_stream())) {
    expects(size.rooms > 0, "JointDecoder: no rooms");
    expects(profile_->profile()->data().geometry == describe(geometry), "JointDecoder: the profile is another model's");
    or_throw(device.wait(stream_, profile_->ready()));
    for (std::size_t i = 0; i < size.rooms; ++i) rooms_.push_back({or_throw(device.allocate(room_bytes_))});
  }

  /// Asks for the rows of a chunk; `finish` says whether they are sound.
  /// @param rows      of the cache that the chunk is of
  /// @param features  [rows, F] of their tokens, as the profile asks for
  /// @return as JointChunk::read; too_large if the chunk does not fit a room; unsupported if the features are missing
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
    const GroupTransform& layers = profile.data().groups[group];
    Room& room = rooms_[next_];
    ChunkTarget target{.room = room.memory.data(),
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
    if (layout.bytes > std::min(room_bytes_, most_bytes))
      return fail(ErrorCode::too_large, "a chunk takes " + std::to_string(layout.bytes) +
                                            " bytes to decode on the device, and its rooms have " +
                                            std::to_string(room_bytes_) + ": give JointDecoder larger ones");
    next_ = (next_ + 1) % rooms_.size();
    check(room);
    ring_->to_device(layout.arrays_at, layout.arrays);
    or_throw(device_->wait(stream_, or_throw(device_->record(ring_->stream()))));
    cache.begin(Rows::decoded, stream_);
    run(layout, {room.memory.data(), layout.bytes, true}, std::move(written));
    cache.end(Rows::decoded, stream_);
    room.decoded = or_throw(device_->record(stream_));
    room.outcome = layout.outcome;
    if (chunk->has_first_row)
      for (std::size_t layer = 0; layer < layers.layers; ++layer) {
        const auto row = [&](std::size_t tensor) {
          return std::span(chunk->first_row)
              .subspan((2 * layer + tensor) * geometry_.kv_row_bytes(), geometry_.kv_row_bytes());
        };
        cache.write_kv(layers.first_layer + layer, {0, 1}, {row(0), row(1)});
      }
    for (std::size_t layer = 0; layer < layers.layers; ++layer) cache.mark_present(layers.first_layer + layer, rows);
    return {};
  }

  /// Waits for all that was asked for.
  /// @return corrupt or truncated if one of the chunks was damaged: the rows of all since the last call hold no meaning
  /// @throws ResultError if the device fails
  [[nodiscard]] Status finish() {
    for (std::size_t i = 0; i < rooms_.size(); ++i) check(rooms_[(next_ + i) % rooms_.size()]);
    return std::exchange(damaged_, {});
  }

 private:
  static constexpr std::size_t most_bytes = std::size_t{1} << 31;  // kernels count in 32 bits
  using Outcome = krul::detail::DecodeOutcome;
  struct Room {
    typename Device::Memory memory;
    std::optional<typename Device::Event> decoded = {};
    const Outcome* outcome = nullptr;  ///< on the device; null: nobody waits for it
  };

  /// @param written  rows of the group's layers
  void run(const ChunkLayout& layout, const TouchedBytes& room, std::vector<TouchedBytes> written) {
    const std::array within{room, profile_->memory()};
    written.push_back(room);
    const auto launch = [&](const auto& kernel, const Launch& how) {
      or_throw(device_->launch(stream_, Touching{kernel, std::span<const TouchedBytes>(within)}, how));
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
      or_throw(device_->launch(stream_, Touching{store, std::span<const TouchedBytes>(written)}, {rows, 128}));
    }
  }

  /// Waits for the chunk that a room holds, and notes what became of it.
  void check(Room& room) {
    const Outcome* const from = std::exchange(room.outcome, nullptr);
    if (from == nullptr) return;
    Outcome outcome{};
    or_throw(device_->wait(ring_->stream(), *std::exchange(room.decoded, std::nullopt)));
    ring_->from_device(std::as_writable_bytes(std::span(&outcome, 1)), reinterpret_cast<const std::byte*>(from));
    ring_->finish_reads();
    if (auto status = krul::detail::status_of(outcome); !status) damaged_ = status;
  }

  Device* device_;
  Geometry geometry_;
  std::shared_ptr<StagingRing<Device>> ring_;
  std::shared_ptr<const DeviceProfile<Device>> profile_;
  std::size_t room_bytes_, next_ = 0;
  typename Device::Stream stream_;
  std::vector<Room> rooms_;
  Status damaged_;  // what finish has not said yet
};

}  // namespace krul::cuda
