#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/compress/entropy/detail/decode_status.hpp"
#include "krul/cuda/chunk_verdict.hpp"
#include "krul/cuda/staging_ring.hpp"

namespace krul::cuda {

/// A few rooms of a device's memory in which chunks are decoded by a stream of its own. A chunk is in a room until the
/// device has said what became of it; nothing waits but a chunk for a free room.
template <DeviceApi Device>
class DecodingRooms {
 public:
  struct Size {
    std::size_t rooms = 2;                           ///< chunks that are copied and decoded at once
    std::size_t room_bytes = std::size_t{16} << 20;  ///< of each
  };

  /// @param device  kept by reference
  /// @throws ResultError if the device has no memory for them; PreconditionError if there are none
  DecodingRooms(Device& device, std::shared_ptr<StagingRing<Device>> ring, const Size& size)
      : device_(&device),
        ring_(std::move(ring)),
        room_bytes_(std::min(size.room_bytes, most_bytes)),
        stream_(or_throw(device.make_stream())) {
    expects(size.rooms > 0, "DecodingRooms: no rooms");
    for (std::size_t i = 0; i < size.rooms; ++i) rooms_.push_back({or_throw(device.allocate(room_bytes_))});
  }

  [[nodiscard]] Device& device() const noexcept { return *device_; }
  /// On which chunks are decoded.
  [[nodiscard]] typename Device::Stream& stream() noexcept { return stream_; }
  /// The room that `fill` takes next.
  [[nodiscard]] std::byte* next() const { return rooms_[next_].memory.data(); }

  /// Waits for what the next room holds, and copies a chunk into it; what is asked for on the stream from now on comes
  /// after that.
  /// @param arrays  to `to`, in the room
  /// @param bytes   of the room that the chunk takes
  /// @return too_large if that is more than there is
  /// @throws ResultError if the device fails, like all here
  [[nodiscard]] Status fill(std::byte* to, std::span<const std::byte> arrays, std::size_t bytes) {
    if (bytes > room_bytes_)
      return fail(ErrorCode::too_large, "a chunk takes " + std::to_string(bytes) +
                                            " bytes to decode on the device, and its rooms have " +
                                            std::to_string(room_bytes_) + ": make them larger");
    settle(rooms_[next_]);
    ring_->to_device(to, arrays);
    or_throw(device_->wait(stream_, or_throw(device_->record(ring_->stream()))));
    return {};
  }
  /// All that decodes the chunk in the room has been asked for.
  /// @param verdict  in the room
  /// @param sound    is called once the device has found the chunk sound, before finish returns
  void asked(const ChunkVerdict* verdict, std::function<void()> sound) {
    Room& room = rooms_[std::exchange(next_, (next_ + 1) % rooms_.size())];
    room.decoded = or_throw(device_->record(stream_));
    room.verdict = verdict;
    room.sound = std::move(sound);
  }

  /// Waits for all that was asked for.
  /// @return corrupt or truncated if a chunk since the last call was damaged
  [[nodiscard]] Status finish() {
    for (std::size_t i = 0; i < rooms_.size(); ++i) settle(rooms_[(next_ + i) % rooms_.size()]);
    return std::exchange(damaged_, {});
  }

 private:
  static constexpr std::size_t most_bytes = std::size_t{1} << 31;  // kernels count in 32 bits
  struct Room {
    typename Device::Memory memory;
    std::optional<typename Device::Event> decoded = {};
    const ChunkVerdict* verdict = nullptr;  ///< on the device; null: nobody waits for it
    std::function<void()> sound = {};
  };

  void settle(Room& room) {
    const ChunkVerdict* const from = std::exchange(room.verdict, nullptr);
    if (from == nullptr) return;
    ChunkVerdict verdict;
    or_throw(device_->wait(ring_->stream(), *std::exchange(room.decoded, std::nullopt)));
    ring_->from_device(std::as_writable_bytes(std::span(&verdict, 1)), reinterpret_cast<const std::byte*>(from));
    ring_->finish_reads();
    Status status = krul::detail::status_of(verdict.symbols);
    if (status && (verdict.unsound != 0 || verdict.not_finite != 0))
      status = fail(ErrorCode::corrupt, "a chunk is damaged: it holds what no encoder writes; recompute these rows");
    if (status) {
      room.sound();
    } else {
      damaged_ = status;
    }
  }

  Device* device_;
  std::shared_ptr<StagingRing<Device>> ring_;
  std::size_t room_bytes_, next_ = 0;
  typename Device::Stream stream_;
  std::vector<Room> rooms_;
  Status damaged_;  // what finish has not said yet
};

}  // namespace krul::cuda
