#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "krul/cuda/device_api.hpp"

namespace krul::cuda {

/// What touches rows of a cache: copies, the model's kernels, kernels that decode.
enum class Rows : std::uint8_t { copied, computed, decoded };

/// Puts in order who touches a cache's rows on a device.
///
/// Rows are copied on a stream of their own, computed on the model's, and decoded on any number of others. Whoever
/// touches rows on a stream says so: `begin` puts what is asked for there next after what the others were asked for so
/// far, `end` puts what the others are asked for later after it. Where nothing new was asked for, copies and the model
/// do not wait. What is decoded on several streams is not put in order
/// among itself: these chunks are of different rows. Several threads may call.
template <DeviceApi Device>
class RowOrder {
 public:
  using Rows = cuda::Rows;

  /// @param device  kept by reference
  explicit RowOrder(Device& device) : device_(&device), mutex_(std::make_unique<std::mutex>()) {}

  /// What is asked for on the stream from now on comes after what the others were asked for so far.
  /// @throws ResultError if the device fails, like end
  void begin(Rows what, typename Device::Stream& stream) const {
    const std::scoped_lock lock(*mutex_);
    for (const Rows other : {Rows::copied, Rows::computed}) {
      if (other == what || !last_[index(other)]) continue;
      // Streams that decode are many: each waits for itself.
      if (what != Rows::decoded && !std::exchange(awaited_[index(other)], false)) continue;
      or_throw(device_->wait(stream, *last_[index(other)]));
    }
    if (what == Rows::decoded) return;
    for (const auto& event : std::exchange(decoded_[index(what)], {})) or_throw(device_->wait(stream, event));
  }
  /// What the others are asked for from now on comes after all that was asked for on the stream so far.
  void end(Rows what, typename Device::Stream& stream) const {
    const std::scoped_lock lock(*mutex_);
    auto event = or_throw(device_->record(stream));
    if (what == Rows::decoded)
      for (auto& awaited : decoded_) awaited.push_back(event);
    else
      last_[index(what)] = std::move(event), awaited_[index(what)] = true;
  }

 private:
  [[nodiscard]] static constexpr std::size_t index(Rows what) noexcept { return static_cast<std::size_t>(what); }

  Device* device_;
  std::unique_ptr<std::mutex> mutex_;                                  // several threads may copy rows of one cache
  mutable std::array<std::optional<typename Device::Event>, 2> last_;  // of copies and of the model
  mutable std::array<bool, 2> awaited_{};  // the other one of these has still to wait for it
  mutable std::array<std::vector<typename Device::Event>, 2> decoded_;  // that these have still to wait for
};

/// Rows of a cache between begin and end: end comes whatever is thrown between.
template <class Cache, class Stream>
class RowsInUse {
 public:
  /// @param cache, stream  kept by reference
  /// @throws ResultError as begin
  RowsInUse(const Cache& cache, Rows what, Stream& stream) : cache_(cache), what_(what), stream_(stream) {
    cache.begin(what, stream);
  }
  RowsInUse(const RowsInUse&) = delete;
  RowsInUse& operator=(const RowsInUse&) = delete;
  /// @throws ResultError as end
  void done() {
    done_ = true;
    cache_.end(what_, stream_);
  }
  ~RowsInUse() {
    if (done_) return;
    try {
      cache_.end(what_, stream_);
    } catch (...) {  // what is thrown already says more
    }
  }

 private:
  const Cache& cache_;
  Rows what_;
  Stream& stream_;
  bool done_ = false;
};

}  // namespace krul::cuda
