#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <mutex>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/cuda/device_api.hpp"

namespace krul::cuda {

/// Pinned memory of a bounded size, through which copies between a device and any memory of the host go: pinning what
/// they come from would take longer than copying it. Slots are used one after the other; one that is still in use is
/// waited for.
///
/// All copies go through one stream, in the order in which they were asked for. Several threads may ask; finish_reads
/// waits for the reads of all of them. Once the device has failed, the ring refuses with the same error.
template <DeviceApi Device>
class StagingRing {
 public:
  struct Size {
    std::size_t slots = 8;
    std::size_t slot_bytes = std::size_t{8} << 20;
  };

  /// @param device  kept by reference
  /// @throws ResultError if the device has no pinned memory for it; PreconditionError if it has no slots
  StagingRing(Device& device, typename Device::Stream stream, const Size& size)
      : device_(&device), stream_(std::move(stream)), slot_bytes_(size.slot_bytes) {
    expects(size.slots > 0 && size.slot_bytes > 0, "StagingRing: no slots");
    for (std::size_t i = 0; i < size.slots; ++i) slots_.push_back({or_throw(device.pin(size.slot_bytes))});
  }

  /// Copies host memory to the device, piece by piece; `from` is not needed any more when this returns.
  /// @throws ResultError if the device fails
  void to_device(std::byte* to, std::span<const std::byte> from) {
    const std::scoped_lock lock(mutex_);
    or_give_up([&] {
      while (!from.empty()) {
        const auto piece = from.first(std::min(from.size(), slot_bytes_));
        Slot& slot = take();
        // A copy out of it may still be under way; one into it would come after that by itself.
        if (slot.copied) or_throw(device_->synchronise(*std::exchange(slot.copied, std::nullopt)));
        device_->host_touches({slot.memory.data(), piece.size(), true});
        std::memcpy(slot.memory.data(), piece.data(), piece.size());
        copy({to, slot.memory.data(), piece.size()}, slot);
        to += piece.size();
        from = from.subspan(piece.size());
      }
    });
  }

  /// Asks for a copy of the device's memory, which is at `to` once finish_reads has returned.
  /// @throws ResultError if the device fails: then nothing that was asked for comes any more
  void from_device(std::span<std::byte> to, const std::byte* from) {
    const std::scoped_lock lock(mutex_);
    or_give_up([&] {
      while (!to.empty()) {
        const auto piece = to.first(std::min(to.size(), slot_bytes_));
        Slot& slot = take();
        copy({slot.memory.data(), from, piece.size()}, slot);
        slot.reads_to = piece;
        from += piece.size();
        to = to.subspan(piece.size());
      }
    });
  }
  /// Waits for all that was asked for by from_device.
  /// @throws ResultError as from_device
  void finish_reads() {
    const std::scoped_lock lock(mutex_);
    or_give_up([&] {
      // The oldest is in the slot that is used next.
      for (std::size_t i = 0; i < slots_.size(); ++i) finish_read(slots_[(next_ + i) % slots_.size()]);
    });
  }

  [[nodiscard]] typename Device::Stream& stream() noexcept { return stream_; }

 private:
  struct Slot {
    typename Device::Pinned memory;
    std::optional<typename Device::Event> copied = {};  ///< the copy that uses it
    std::span<std::byte> reads_to = {};                 ///< where what it holds is to go then
  };

  /// After a failure what was to be read never comes, whoever asked for it, and nothing is copied any more.
  template <class Copies>
  void or_give_up(Copies&& copies) {
    if (failed_) throw ResultError(*failed_);
    try {
      copies();
    } catch (const ResultError& error) {
      failed_ = error.error;
      for (Slot& slot : slots_) slot.reads_to = {};
      throw;
    }
  }
  [[nodiscard]] Slot& take() {
    Slot& slot = slots_[std::exchange(next_, (next_ + 1) % slots_.size())];
    finish_read(slot);
    return slot;
  }
  void copy(const CopiedBytes& bytes, Slot& slot) {
    or_throw(device_->copy(stream_, bytes));
    slot.copied = or_throw(device_->record(stream_));
  }
  void finish_read(Slot& slot) {
    if (slot.reads_to.empty()) return;
    const auto to = std::exchange(slot.reads_to, {});
    or_throw(device_->synchronise(*std::exchange(slot.copied, std::nullopt)));
    device_->host_touches({slot.memory.data(), to.size(), false});
    std::memcpy(to.data(), slot.memory.data(), to.size());
  }

  std::mutex mutex_;
  Device* device_;
  typename Device::Stream stream_;
  std::size_t slot_bytes_, next_ = 0;
  std::vector<Slot> slots_;
  std::optional<Error> failed_;
};

}  // namespace krul::cuda
