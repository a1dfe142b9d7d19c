#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "krul/core/checksum.hpp"
#include "krul/core/clock.hpp"
#include "krul/restore/read_requests.hpp"
#include "krul/restore/restore_control.hpp"
#include "krul/restore/timeline.hpp"
#include "krul/store/ranged_reads.hpp"

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
/// more than `staging` bytes (or one request, if that is more) that the cores have not taken yet. From a distant store
/// neighbours in the plan are asked for together, and the next ones before the first have come, so that the link is
/// never idle. Reads may end in any order then, and with several readers. A lane that gets no memory reads no more:
/// whatever has not come then is handed over as unread.
template <ConversationStore S, Clock C>
class LinkLane {
 public:
  /// Starts reading at once, or, where the system gives no thread at all, whenever next() is asked. All references must
  /// outlive the lane.
  /// @throws PreconditionError if there are to be no readers; std::bad_alloc
  LinkLane(S& store, C clock, const Manifest& manifest, std::string folder, std::vector<ReadRequest> requests,
           const RestoreControl& control = {})
      : store_(store),
        clock_(std::move(clock)),
        manifest_(manifest),
        folder_(std::move(folder)),
        requests_(std::move(requests)),
        limits_(control.limits),
        is_distant_(store.capabilities().distant),
        arrivals_(requests_.size()),
        spans_(requests_.size()),
        given_up_(control.limits.stop, [this] { unwanted_.request_stop(); }) {
    expects(control.readers > 0, "LinkLane: at least one reader");
    limits_.stop = unwanted_.get_token();
    const std::size_t readers = control.readers + (is_distant_ ? 1 : 0);
    readers_.reserve(readers);
    try {
      while (readers_.size() < readers) readers_.emplace_back([this] { read_until_the_end(); });
    } catch (const std::system_error&) {  // the system gives no more threads: fewer will do
    } catch (...) {
      stop();
      throw;
    }
  }

  LinkLane(const LinkLane&) = delete;
  LinkLane& operator=(const LinkLane&) = delete;
  ~LinkLane() { stop(); }

  /// The next arrival in plan order; blocks until it is there.
  /// @throws PreconditionError after the last one
  [[nodiscard]] Arrival next() {
    expects(more(), "LinkLane: nothing more is to come");
    while (readers_.empty() && !ready() && read_more()) {
    }
    std::unique_lock lock(mutex_);
    arrived_.wait(lock, [&] { return is_here(); });
    if (!arrivals_[taken_]) {
      const ReadRequest& request = requests_[taken_];
      Arrival unread{request, {}, no_memory(), std::vector<bool>(request.chunks.size(), false)};
      ++taken_;
      return unread;
    }
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
    return more() && is_here();
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
    ended_.request_stop();
    unwanted_.request_stop();
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
  static constexpr std::uint64_t most_together = 32U << 20, little = 8U << 20;  ///< bytes asked for, still to come

  [[nodiscard]] static tl::unexpected<Error> no_memory() {
    return fail(ErrorCode::too_large, "there is no memory to read what is stored");
  }
  /// Whether next() has something to say.
  [[nodiscard]] bool is_here() const { return arrivals_[taken_].has_value() || has_no_memory_; }

  /// Nothing that is thrown may leave the thread: it would end the process. Without memory there is none for an error
  /// either.
  void read_until_the_end() noexcept {
    try {
      while (read_more()) {
      }
    } catch (const std::bad_alloc&) {
      ended_.request_stop();
      {
        const std::lock_guard lock(mutex_);
        has_no_memory_ = true;
      }
      arrived_.notify_all();
    }
  }

  /// Waits for room and reads what comes next.
  /// @return false once all was begun, or the reading is to end
  bool read_more() {
    std::vector<std::size_t> indices;
    std::vector<Arrival> arrivals;
    {
      // Room is given out in plan order, so that the request that is waited for always has some.
      std::unique_lock lock(mutex_);
      taken_signal_.wait(lock, ended_.get_token(), [&] { return begun_ == requests_.size() || may_ask(); });
      if (ended_.stop_requested() || begun_ == requests_.size()) return false;
      std::uint64_t bytes = 0;
      do {
        const ReadRequest& request = requests_[begun_];
        indices.push_back(begun_++);
        arrivals.push_back({request, spare_buffer(), {}, std::vector<bool>(request.chunks.size(), false)});
        bytes += request.bytes;
        staged_ += request.bytes;
      } while (is_distant_ && begun_ < requests_.size() && has_room() &&
               bytes + requests_[begun_].bytes <= most_together);
      awaited_ += bytes;
    }
    read(indices, arrivals);
    return true;
  }

  [[nodiscard]] bool has_room() const { return staged_ == 0 || staged_ + requests_[begun_].bytes <= staging; }
  /// Of a distant store the next ones are asked for when little of the last ones is still to come: late enough not to
  /// slow those down much, and early enough for the link not to fall idle.
  [[nodiscard]] bool may_ask() const { return has_room() && (!is_distant_ || awaited_ <= little); }
  [[nodiscard]] StagingBuffer spare_buffer() {
    if (spare_.empty()) return {};
    StagingBuffer buffer = std::move(spare_.back());
    spare_.pop_back();
    return buffer;
  }

  /// Hands each arrival over as soon as it is there.
  /// @throws std::bad_alloc
  void read(std::span<const std::size_t> indices, std::span<Arrival> arrivals) {
    TimePoint begin = clock_.now();
    std::vector<bool> told(arrivals.size(), false);
    const auto end = [&](std::size_t i, const Status& status) {
      if (told[i]) return;
      told[i] = true;
      arrivals[i].status = status;
      // The link brings one after the other.
      const std::pair<TimePoint, TimePoint> span(begin, clock_.now());
      begin = span.second;
      hand_over(indices[i], std::move(arrivals[i]), span);
    };
    const auto end_all = [&](const Status& status) {
      for (std::size_t i = 0; i < arrivals.size(); ++i) end(i, status);
    };
    try {
      std::vector<RangedRead> reads;
      for (Arrival& arrival : arrivals) {
        arrival.buffer.resize(arrival.request.bytes);
        reads.push_back({object_key(folder_, manifest_.objects[arrival.request.object]), arrival.request.offset,
                         arrival.buffer.bytes()});
      }
      get_together(store_, reads, limits_, end, clock_);
    } catch (const std::bad_alloc&) {
      end_all(no_memory());
    } catch (const std::exception& error) {
      end_all(fail(ErrorCode::io, std::string("the store failed: ") + error.what()));
    } catch (...) {
      end_all(fail(ErrorCode::io, "the store failed and did not say why"));
    }
    end_all(fail(ErrorCode::io, "the store did not tell how a read ended"));
  }

  void hand_over(std::size_t index, Arrival arrival, const std::pair<TimePoint, TimePoint>& span) {
    if (arrival.status) check(arrival);
    {
      const std::lock_guard lock(mutex_);
      awaited_ -= arrival.request.bytes;
      if (arrival.status) bytes_ += arrival.request.bytes;
      spans_[index] = span;
      arrivals_[index] = std::move(arrival);
    }
    arrived_.notify_all();
    if (is_distant_) taken_signal_.notify_all();
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
  RequestLimits limits_;
  bool is_distant_;
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::condition_variable_any taken_signal_;
  std::vector<std::optional<Arrival>> arrivals_;  ///< [requests]
  std::vector<StagingBuffer> spare_;
  std::uint64_t staged_ = 0;   ///< bytes that were begun and not taken
  std::uint64_t awaited_ = 0;  ///< bytes that were begun and have not arrived
  std::size_t begun_ = 0;
  std::size_t taken_ = 0;
  std::uint64_t bytes_ = 0;
  bool has_no_memory_ = false;
  std::vector<std::pair<TimePoint, TimePoint>> spans_;  ///< [requests]
  std::stop_source ended_, unwanted_;
  std::stop_callback<std::function<void()>> given_up_;
  std::vector<std::jthread> readers_;  ///< last, so that everything is there when they start
};

}  // namespace krul
