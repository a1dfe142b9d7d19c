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

/// Rooms of a device's memory in which chunks are decoded, each by a stream of its own: one chunk keeps few of a
/// device's multiprocessors busy. The host waits for none of them before it asks what became of all; copies wait for
/// the room that they go to.
template <DeviceApi Device>
class DecodingRooms {
 public:
  struct Size {
    std::size_t rooms = 32;                          ///< chunks that are copied and decoded at once
    std::size_t room_bytes = std::size_t{16} << 20;  ///< of each; rooms that nobody needs are not allocated
  };

  /// @param device  kept by reference
  /// @throws ResultError if the device fails; PreconditionError if there are no rooms
  DecodingRooms(Device& device, std::shared_ptr<StagingRing<Device>> ring, const Size& size)
      : device_(&device),
        ring_(std::move(ring)),
        room_bytes_(std::min(size.room_bytes, most_bytes)),
        rooms_(size.rooms),
        verdicts_(or_throw(device.allocate(most_chunks * sizeof(ChunkVerdict)))) {
    expects(size.rooms > 0, "DecodingRooms: no rooms");
  }

  [[nodiscard]] Device& device() const noexcept { return *device_; }
  /// Nothing is decoded before the event, such as a profile's copy.
  void come_after(const typename Device::Event& event) {
    for (Room& room : rooms_)
      if (room.stream) or_throw(device_->wait(*room.stream, event));
    before_.push_back(event);
  }
  /// Where the next chunk goes.
  /// @throws ResultError if the device has no memory for a first room
  [[nodiscard]] std::byte* next() {
    Room& room = rooms_[next_];
    if (!room.memory) {
      auto memory = device_->allocate(room_bytes_);
      if (!memory && memory.error().code == ErrorCode::no_space && next_ > 0) {
        rooms_.resize(std::exchange(next_, 0));  // those that there are have to do
        return next();
      }
      room.stream.emplace(or_throw(device_->make_stream()));
      for (const auto& event : before_) or_throw(device_->wait(*room.stream, event));
      room.memory.emplace(or_throw(std::move(memory)));
    }
    return room.memory->data();
  }
  /// On which that chunk is decoded.
  [[nodiscard]] typename Device::Stream& stream() { return *rooms_[next_].stream; }

  /// Copies a chunk into the next room, after what is decoded there now; what is asked for on its stream from now on
  /// comes after that.
  /// @param arrays  to `to`, in the room
  /// @param bytes   of the room that the chunk takes
  /// @return too_large if that is more than there is
  /// @throws ResultError if the device fails, like all here
  [[nodiscard]] Status fill(std::byte* to, std::span<const std::byte> arrays, std::size_t bytes) {
    if (bytes > room_bytes_)
      return fail(ErrorCode::too_large, "a chunk takes " + std::to_string(bytes) +
                                            " bytes to decode on the device, and its rooms have " +
                                            std::to_string(room_bytes_) + ": make them larger");
    if (sound_.size() == most_chunks) settle();
    Room& room = rooms_[next_];
    if (room.decoded) or_throw(device_->wait(ring_->stream(), *room.decoded));
    ring_->to_device(to, arrays);
    or_throw(device_->wait(*room.stream, or_throw(device_->record(ring_->stream()))));
    return {};
  }
  /// All that decodes the chunk in the room has been asked for.
  /// @param verdict  in the room
  /// @param sound    is called once the device has found the chunk sound, before finish returns
  void asked(const ChunkVerdict* verdict, std::function<void()> sound) {
    Room& room = rooms_[std::exchange(next_, (next_ + 1) % rooms_.size())];
    std::byte* const kept = verdicts_.data() + sound_.size() * sizeof(ChunkVerdict);
    or_throw(device_->copy(*room.stream, {kept, verdict, sizeof(ChunkVerdict)}));
    room.decoded = or_throw(device_->record(*room.stream));
    sound_.push_back(std::move(sound));
  }

  /// Waits for all that was asked for.
  /// @return corrupt or truncated if a chunk since the last call was damaged
  [[nodiscard]] Status finish() {
    settle();
    return std::exchange(damaged_, {});
  }

 private:
  static constexpr std::size_t most_bytes = std::size_t{1} << 31;  // kernels count in 32 bits
  static constexpr std::size_t most_chunks = 4096;                 // between two calls of settle
  struct Room {
    std::optional<typename Device::Memory> memory = {};
    std::optional<typename Device::Stream> stream = {};
    std::optional<typename Device::Event> decoded = {};  ///< what is in it, last
  };

  /// Waits for all chunks, and hears what became of them.
  void settle() {
    const auto sound = std::exchange(sound_, {});
    if (sound.empty()) return;
    for (Room& room : rooms_)
      if (room.decoded) or_throw(device_->wait(ring_->stream(), *std::exchange(room.decoded, std::nullopt)));
    std::vector<ChunkVerdict> verdicts(sound.size());
    ring_->from_device(std::as_writable_bytes(std::span(verdicts)), verdicts_.data());
    ring_->finish_reads();
    for (std::size_t i = 0; i < verdicts.size(); ++i)
      if (auto status = status_of(verdicts[i]); status) {
        sound[i]();
      } else {
        damaged_ = status;
      }
  }
  [[nodiscard]] static Status status_of(const ChunkVerdict& verdict) {
    if (auto status = krul::detail::status_of(verdict.symbols); !status) return status;
    if (verdict.unsound == 0 && verdict.not_finite == 0) return {};
    return fail(ErrorCode::corrupt, "a chunk is damaged: it holds what no encoder writes; recompute these rows");
  }

  Device* device_;
  std::shared_ptr<StagingRing<Device>> ring_;
  std::size_t room_bytes_, next_ = 0;
  std::vector<Room> rooms_;
  std::vector<typename Device::Event> before_;  // what every stream comes after
  typename Device::Memory verdicts_;            // [most_chunks] of what was asked for since the last settle
  std::vector<std::function<void()>> sound_;    // of each
  Status damaged_;                              // what finish has not said yet
};

}  // namespace krul::cuda
