#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "krul/core/checksum.hpp"
#include "krul/core/clock.hpp"
#include "krul/restore/read_requests.hpp"
#include "krul/restore/timeline.hpp"
#include "krul/store/conversation_store.hpp"

namespace krul {

/// Room for what one read brings, used again and again. Its bytes are not set to zero before they are read into.
class StagingBuffer {
 public:
  /// @post bytes().size() == size; what was in it is lost
  void resize(std::size_t size) {
    if (size > capacity_) {
      memory_ = std::make_unique_for_overwrite<std::byte[]>(size);
      capacity_ = size;
    }
    size_ = size;
  }
  [[nodiscard]] std::span<std::byte> bytes() noexcept { return {memory_.get(), size_}; }
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {memory_.get(), size_}; }

 private:
  std::unique_ptr<std::byte[]> memory_;
  std::size_t capacity_ = 0, size_ = 0;
};

/// What one read brought: the bytes, and for every chunk in them whether they are what was written.
struct Arrival {
  ReadRequest request;
  StagingBuffer buffer;
  Status status;           ///< of the read itself
  std::vector<bool> good;  ///< [request.chunks] read, and the checksum fits
};

/// The link's side of a restore: threads that read in plan order, check, and hand over in plan order, never holding
/// more than `staging` bytes (or one request, if that is more) that the cores have not taken yet. With several readers,
/// reads may end in any order.
template <ConversationStore S, Clock C>
class LinkLane {
 public:
  /// Starts reading at once. All references must outlive the lane.
  /// @throws PreconditionError if readers is 0
  LinkLane(S& store, C clock, const Manifest& manifest, std::string folder, std::vector<ReadRequest> requests,
           std::size_t readers = 1)
      : store_(store),
        clock_(std::move(clock)),
        manifest_(manifest),
        folder_(std::move(folder)),
        requests_(std::move(requests)),
        arrivals_(requests_.size()),
        spans_(requests_.size()) {
    expects(readers > 0, "LinkLane: at least one reader");
    for (std::size_t i = 0; i < readers; ++i)
      readers_.emplace_back([this](const std::stop_token& stop) { read_all(stop); });
  }

  ~LinkLane() { stop(); }

  /// The next arrival in plan order; blocks until it is there.
  /// @throws PreconditionError after the last one
  [[nodiscard]] Arrival next() {
    expects(more(), "LinkLane: nothing more is to come");
    std::unique_lock lock(mutex_);
    arrived_.wait(lock, [&] { return arrivals_[taken_].has_value(); });
    Arrival arrival = std::move(*arrivals_[taken_]);
    arrivals_[taken_].reset();
    staged_ -= arrival.request.bytes;
    ++taken_;
    lock.unlock();
    taken_signal_.notify_all();
    return arrival;
  }

  /// Whether anything is still to be taken.
  [[nodiscard]] bool more() const noexcept { return taken_ < requests_.size(); }
  /// Whether next() would not block.
  [[nodiscard]] bool ready() {
    const std::lock_guard lock(mutex_);
    return more() && arrivals_[taken_].has_value();
  }
  /// The layer that the next arrival belongs to, or the number of layers after the last one.
  [[nodiscard]] std::size_t next_layer() const noexcept {
    return more() ? requests_[taken_].chunks.front().layer : manifest_.layers;
  }
  /// The block that the next arrival belongs to.
  /// @throws PreconditionError after the last one
  [[nodiscard]] std::size_t next_block() const {
    expects(more(), "LinkLane: nothing more is to come");
    return requests_[taken_].chunks.front().block;
  }

  /// Gives a buffer back for reading into.
  void recycle(StagingBuffer buffer) {
    const std::lock_guard lock(mutex_);
    spare_.push_back(std::move(buffer));
  }

  /// Ends the reading, finished or not. The figures below may be read afterwards.
  void stop() {
    for (auto& reader : readers_) reader.request_stop();
    taken_signal_.notify_all();
    for (auto& reader : readers_)
      if (reader.joinable()) reader.join();
  }

  /// Time in which some read was under way.
  [[nodiscard]] double busy_s() const {
    auto spans = spans_;
    spans.resize(begun_);
    std::sort(spans.begin(), spans.end());
    double busy = 0;
    TimePoint end{};
    for (const auto& [from, to] : spans) {
      const TimePoint begin = busy > 0 ? std::max(from, end) : from;
      if (to > begin) busy += seconds(to - begin);
      end = std::max(end, to);
    }
    return busy;
  }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
  /// [reads that were begun] when each began and ended.
  [[nodiscard]] std::span<const std::pair<TimePoint, TimePoint>> spans() const noexcept {
    return std::span(spans_).first(begun_);
  }
  [[nodiscard]] const std::vector<ReadRequest>& requests() const noexcept { return requests_; }

 private:
  static constexpr std::size_t staging = 64U << 20;

  void read_all(const std::stop_token& stop) {
    for (;;) {
      std::size_t index = 0;
      StagingBuffer buffer;
      {
        // Room is given out in plan order, so that the request that is waited for always has some.
        std::unique_lock lock(mutex_);
        taken_signal_.wait(lock, stop, [&] {
          return begun_ == requests_.size() || staged_ == 0 || staged_ + requests_[begun_].bytes <= staging;
        });
        if (stop.stop_requested() || begun_ == requests_.size()) return;
        index = begun_++;
        staged_ += requests_[index].bytes;
        if (!spare_.empty()) {
          buffer = std::move(spare_.back());
          spare_.pop_back();
        }
      }
      const ReadRequest& request = requests_[index];
      Arrival arrival{request, std::move(buffer), {}, std::vector<bool>(request.chunks.size(), false)};
      const TimePoint begin = clock_.now();
      arrival.status = read(arrival);
      const TimePoint end = clock_.now();
      {
        const std::lock_guard lock(mutex_);
        if (arrival.status) bytes_ += request.bytes;
        spans_[index] = {begin, end};
        arrivals_[index] = std::move(arrival);
      }
      arrived_.notify_all();
    }
  }

  /// Nothing that is thrown may leave the thread: it would end the process.
  [[nodiscard]] Status read(Arrival& arrival) noexcept {
    const ReadRequest& request = arrival.request;
    try {
      arrival.buffer.resize(request.bytes);
      const Status status =
          store_.get(folder_ + "/" + manifest_.objects[request.object], request.offset, arrival.buffer.bytes());
      if (status) check(arrival);
      return status;
    } catch (const std::bad_alloc&) {
      return fail(ErrorCode::too_large, "there is no memory to read " + std::to_string(request.bytes) + " bytes");
    } catch (const std::exception& error) {
      return fail(ErrorCode::io, std::string("the store failed: ") + error.what());
    }
  }

  void check(Arrival& arrival) const {
    std::size_t at = 0;
    for (std::size_t i = 0; i < arrival.request.chunks.size(); ++i) {
      const ChunkPlace& place = arrival.request.chunks[i];
      const ChunkRecord& chunk = manifest_.chunk(place.layer, place.block);
      arrival.good[i] = checksum(arrival.buffer.bytes().subspan(at, chunk.bytes)) == chunk.hash;
      at += chunk.bytes;
    }
  }

  S& store_;
  C clock_;
  const Manifest& manifest_;
  std::string folder_;
  std::vector<ReadRequest> requests_;
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::condition_variable_any taken_signal_;
  std::vector<std::optional<Arrival>> arrivals_;  ///< [requests]
  std::vector<StagingBuffer> spare_;
  std::size_t staged_ = 0;  ///< bytes that were begun and not taken
  std::size_t begun_ = 0;
  std::size_t taken_ = 0;
  std::uint64_t bytes_ = 0;
  std::vector<std::pair<TimePoint, TimePoint>> spans_;  ///< [requests]
  std::vector<std::jthread> readers_;                   ///< last, so that everything is there when they start
};

}  // namespace krul
