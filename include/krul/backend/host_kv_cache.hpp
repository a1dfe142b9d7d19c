#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "krul/backend/kv_cache.hpp"
#include "krul/core/aligned_buffer.hpp"

namespace krul {

/// What a backend's caches give back when they go, for the next one: the first touch of a page can cost more than
/// decoding the rows that come to lie in it. Keeps what was given back last, if it is as large as what was asked for
/// last: the next cache will be, and memory that nobody asks for any more is not kept.
class HostKvMemory {
 public:
  [[nodiscard]] AlignedBuffer take(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    wanted_ = bytes;
    AlignedBuffer spare = std::exchange(spare_, {});
    if (spare.data() != nullptr && spare.size() == bytes) return spare;
    spare = {};
    return AlignedBuffer(bytes);
  }
  void give_back(AlignedBuffer memory) {
    const std::lock_guard lock(mutex_);
    if (memory.size() == wanted_) spare_ = std::move(memory);
  }

 private:
  std::mutex mutex_;
  AlignedBuffer spare_;
  std::size_t wanted_ = 0;  ///< bytes that were asked for last
};

namespace detail {

struct GiveBackKvMemory {
  std::shared_ptr<HostKvMemory> to;
  void operator()(AlignedBuffer* memory) const {
    const std::unique_ptr<AlignedBuffer> owned(memory);
    if (to) to->give_back(std::move(*owned));
  }
};

}  // namespace detail

/// A KvCache in host memory that any CPU backend can use as it is. Transfers are copies and done when the call returns.
class HostKvCache {
 public:
  /// Reserves room for `capacity` tokens; the memory is touched only where rows are written, in large pages if there
  /// are any, as attention reads all of it at each step.
  /// @param memory  where it comes from and goes back to; null: from the system
  HostKvCache(const Geometry& geometry, std::size_t capacity, std::shared_ptr<HostKvMemory> memory = nullptr)
      : row_bytes_(geometry.kv_row_bytes()), capacity_(capacity), layers_(geometry.layers) {
    constexpr std::size_t line = 64;  // a row of whole cache lines stays in as few of them
    const std::size_t each = (capacity * row_bytes_ + line - 1) / line * line, bytes = 2 * layers_.size() * each;
    auto room = std::make_unique<AlignedBuffer>(memory ? memory->take(bytes) : AlignedBuffer(bytes));
    memory_ = {room.release(), detail::GiveBackKvMemory{std::move(memory)}};
    std::byte* at = memory_->data();
    for (auto& layer : layers_) {
      layer.keys = at;
      layer.values = at + each;
      at += 2 * each;
    }
  }

  [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
  [[nodiscard]] std::size_t length() const noexcept { return length_; }
  [[nodiscard]] const TokenSet& present(std::size_t layer) const { return layers_.at(layer).present; }

  /// @throws PreconditionError if the range exceeds the capacity or the spans do not hold exactly its rows
  Ticket write_kv(std::size_t layer, TokenRange tokens, KvRows from) {
    check(layer, tokens, from);
    auto& target = layers_[layer];
    if (!tokens.empty()) {
      std::memcpy(&target.keys[tokens.begin * row_bytes_], from.keys.data(), from.keys.size());
      std::memcpy(&target.values[tokens.begin * row_bytes_], from.values.data(), from.values.size());
    }
    target.present.insert(tokens);
    return {};
  }

  /// @throws PreconditionError as write_kv, and if a row is not present
  Ticket read_kv(std::size_t layer, TokenRange tokens, MutableKvRows to) const {
    check(layer, tokens, to);
    const auto& source = layers_[layer];
    expects(source.present.contains(tokens), "HostKvCache: reading rows that are not present");
    if (!tokens.empty()) {
      std::memcpy(to.keys.data(), &source.keys[tokens.begin * row_bytes_], to.keys.size());
      std::memcpy(to.values.data(), &source.values[tokens.begin * row_bytes_], to.values.size());
    }
    return {};
  }

  void wait(Ticket) const noexcept {}

  /// @throws PreconditionError unless every layer has all rows of [0, count)
  void commit(std::size_t count) {
    for (const auto& layer : layers_)
      expects(layer.present.contains({0, count}), "HostKvCache: committing rows that are not present");
    length_ = count;
  }

  void truncate(std::size_t count) {
    for (auto& layer : layers_) layer.present.truncate(count);
    length_ = std::min(length_, count);
  }

  /// Rows without a copy, [capacity, G, D] each. Who writes through it must call mark_present.
  [[nodiscard]] MutableKvRows view(std::size_t layer) {
    const auto& rows = layers_.at(layer);
    return {{rows.keys, capacity_ * row_bytes_}, {rows.values, capacity_ * row_bytes_}};
  }
  [[nodiscard]] KvRows view(std::size_t layer) const {
    const auto& rows = layers_.at(layer);
    return {{rows.keys, capacity_ * row_bytes_}, {rows.values, capacity_ * row_bytes_}};
  }

  /// @throws PreconditionError if the range exceeds the capacity
  void mark_present(std::size_t layer, TokenRange tokens) {
    expects(tokens.end <= capacity_, "HostKvCache: beyond the capacity");
    layers_.at(layer).present.insert(tokens);
  }

 private:
  struct Layer {
    std::byte *keys = nullptr, *values = nullptr;  // [capacity, G, D]
    TokenSet present;
  };

  void check(std::size_t layer, TokenRange tokens, const KvRows& rows) const {
    expects(layer < layers_.size(), "HostKvCache: no such layer");
    expects(tokens.begin <= tokens.end && tokens.end <= capacity_, "HostKvCache: beyond the capacity");
    expects(rows.keys.size() == tokens.size() * row_bytes_ && rows.values.size() == rows.keys.size(),
            "HostKvCache: the spans do not hold the rows of the range");
  }

  std::size_t row_bytes_;
  std::size_t capacity_;
  std::size_t length_ = 0;
  std::unique_ptr<AlignedBuffer, detail::GiveBackKvMemory> memory_;
  std::vector<Layer> layers_;
};
static_assert(HostViewableCache<HostKvCache>);

}  // namespace krul
