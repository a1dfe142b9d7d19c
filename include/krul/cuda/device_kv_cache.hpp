#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "krul/backend/kv_cache.hpp"
#include "krul/cuda/staging_ring.hpp"

namespace krul::cuda {

/// A KvCache in a device's memory, [L][K and V][capacity, G, D].
///
/// Rows are copied on a stream of their own, computed on the model's, and may be decoded on a third. Whoever touches
/// rows on a stream says so: `begin` puts what is asked for there next after what the others were asked for so far,
/// `end` puts what the others are asked for later after it. Where nothing new was asked for, nothing waits. Each of the
/// three has one stream. A device's failure is thrown as ResultError: the cache commits nothing then.
template <DeviceApi Device>
class DeviceKvCache {
 public:
  /// @param device  kept by reference
  /// @param ring    for the copies; caches of one thread may share it
  /// @throws ResultError if the device has no memory for it
  DeviceKvCache(Device& device, const Geometry& geometry, std::size_t capacity,
                std::shared_ptr<StagingRing<Device>> ring)
      : device_(&device),
        ring_(std::move(ring)),
        row_bytes_(geometry.kv_row_bytes()),
        capacity_(capacity),
        present_(geometry.layers),
        memory_(or_throw(device.allocate(2 * geometry.layers * capacity * row_bytes_))) {}

  [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
  [[nodiscard]] std::size_t layers() const noexcept { return present_.size(); }
  [[nodiscard]] std::size_t row_bytes() const noexcept { return row_bytes_; }
  [[nodiscard]] std::size_t length() const noexcept { return length_; }
  [[nodiscard]] const TokenSet& present(std::size_t layer) const { return present_.at(layer); }

  /// Does not need the spans any more when it returns, nor wait() for rows to count as present.
  /// @throws PreconditionError if the range exceeds the capacity or the spans do not hold exactly its rows; ResultError
  Ticket write_kv(std::size_t layer, TokenRange tokens, KvRows from) {
    check(layer, tokens, from);
    begin(Rows::copied, ring_->stream());
    ring_->to_device(keys(layer) + tokens.begin * row_bytes_, from.keys);
    ring_->to_device(values(layer) + tokens.begin * row_bytes_, from.values);
    end(Rows::copied, ring_->stream());
    present_[layer].insert(tokens);
    return {};
  }

  /// @throws PreconditionError as write_kv, and if a row is not present; ResultError
  Ticket read_kv(std::size_t layer, TokenRange tokens, MutableKvRows to) const {
    check(layer, tokens, to);
    expects(present_[layer].contains(tokens), "DeviceKvCache: reading rows that are not present");
    begin(Rows::copied, ring_->stream());
    ring_->from_device(to.keys, keys(layer) + tokens.begin * row_bytes_);
    ring_->from_device(to.values, values(layer) + tokens.begin * row_bytes_);
    end(Rows::copied, ring_->stream());
    return {};
  }
  /// Waits for all reads so far.
  /// @throws ResultError, and then none of them comes any more
  void wait(Ticket) const { ring_->finish_reads(); }

  /// @throws PreconditionError unless every layer has all rows of [0, count)
  void commit(std::size_t count) {
    for (const TokenSet& rows : present_)
      expects(rows.contains({0, count}), "DeviceKvCache: committing rows that are not present");
    length_ = count;
  }
  void truncate(std::size_t count) {
    for (TokenSet& rows : present_) rows.truncate(count);
    length_ = std::min(length_, count);
  }

  /// What touches rows: copies, the model's kernels, kernels that decode.
  enum class Rows : std::uint8_t { copied, computed, decoded };

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

  /// Rows of a layer, [capacity, G, D], for kernels between begin and end.
  [[nodiscard]] std::byte* keys(std::size_t layer) const { return memory_.data() + 2 * layer * capacity_ * row_bytes_; }
  [[nodiscard]] std::byte* values(std::size_t layer) const { return keys(layer) + capacity_ * row_bytes_; }
  /// @throws PreconditionError if the range exceeds the capacity
  void mark_present(std::size_t layer, TokenRange tokens) {
    expects(tokens.end <= capacity_, "DeviceKvCache: beyond the capacity");
    present_.at(layer).insert(tokens);
  }

 private:
  static constexpr std::size_t kinds = 3;
  [[nodiscard]] static constexpr std::size_t index(Rows what) noexcept { return static_cast<std::size_t>(what); }

  void check(std::size_t layer, TokenRange tokens, const KvRows& rows) const {
    expects(layer < present_.size(), "DeviceKvCache: no such layer");
    expects(tokens.begin <= tokens.end && tokens.end <= capacity_, "DeviceKvCache: beyond the capacity");
    expects(rows.keys.size() == tokens.size() * row_bytes_ && rows.values.size() == rows.keys.size(),
            "DeviceKvCache: the spans do not hold the rows of the range");
  }

  Device* device_;
  std::shared_ptr<StagingRing<Device>> ring_;
  std::size_t row_bytes_, capacity_, length_ = 0;
  std::vector<TokenSet> present_;  // [L]
  typename Device::Memory memory_;
  mutable std::array<std::optional<typename Device::Event>, kinds> last_;  // what was asked for last
  mutable std::array<std::array<bool, kinds>, kinds> awaited_{};           // by whom it is still to be waited for
};

}  // namespace krul::cuda
