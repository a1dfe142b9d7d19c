#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "krul/cuda/device_api.hpp"

namespace krul::cuda {

/// What touches rows of a cache: copies, the model's kernels, kernels that decode.
enum class Rows : std::uint8_t { copied, computed, decoded };

/// Puts in order who touches a cache's rows on a device.
///
/// Rows are copied on a stream of their own, computed on the model's, and may be decoded on a third. Whoever touches
/// rows on a stream says so: `begin` puts what is asked for there next after what the others were asked for so far,
/// `end` puts what the others are asked for later after it. Where nothing new was asked for, nothing waits. Each of the
/// three has one stream.
template <DeviceApi Device>
class RowOrder {
 public:
  using Rows = cuda::Rows;

  /// @param device  kept by reference
  explicit RowOrder(Device& device) : device_(&device) {}

  /// What is asked for on the stream from now on comes after what the others were asked for so far.
  /// @throws ResultError if the device fails, like end
  void begin(Rows what, typename Device::Stream& stream) const {
    for (std::size_t other = 0; other < kinds; ++other)
      if (std::exchange(awaited_[index(what)][other], false)) or_throw(device_->wait(stream, *last_[other]));
  }
  /// What the others are asked for from now on comes after all that was asked for on the stream so far.
  void end(Rows what, typename Device::Stream& stream) const {
    last_[index(what)] = or_throw(device_->record(stream));
    for (std::size_t other = 0; other < kinds; ++other) awaited_[other][index(what)] = other != index(what);
  }

 private:
  static constexpr std::size_t kinds = 3;
  [[nodiscard]] static constexpr std::size_t index(Rows what) noexcept { return static_cast<std::size_t>(what); }

  Device* device_;
  mutable std::array<std::optional<typename Device::Event>, kinds> last_;  // what was asked for last
  mutable std::array<std::array<bool, kinds>, kinds> awaited_{};           // by whom it is still to be waited for
};

}  // namespace krul::cuda
