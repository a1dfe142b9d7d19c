#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "krul/core/clock.hpp"
#include "krul/restore/read_requests.hpp"
#include "krul/restore/timeline.hpp"
#include "krul/store/checksum.hpp"
#include "krul/store/conversation_store.hpp"

namespace krul {

/// What one read brought: the bytes, and for every chunk in them whether they are what was written.
struct Arrival {
  ReadRequest request;
  std::vector<std::byte> bytes;
  Status status;           ///< of the read itself
  std::vector<bool> good;  ///< [request.chunks] read, and the checksum fits
};

/// The link's side of a restore: one thread that reads in plan order, checks, and hands over, never holding more than
/// `staging` bytes (or one request, if that is more) that the cores have not taken yet.
template <ConversationStore S, Clock C>
class LinkLane {
 public:
  /// Starts reading at once. All references must outlive the lane.
  LinkLane(S& store, C clock, const Manifest& manifest, std::string folder, std::vector<ReadRequest> requests)
      : store_(store),
        clock_(std::move(clock)),
        manifest_(manifest),
        folder_(std::move(folder)),
        requests_(std::move(requests)),
        reader_([this](const std::stop_token& stop) { read_all(stop); }) {}

  ~LinkLane() { stop(); }

  /// The next arrival in plan order; blocks until it is there.
  /// @throws PreconditionError after the last one
  [[nodiscard]] Arrival next() {
    expects(taken_ < requests_.size(), "LinkLane: nothing more is to come");
    std::unique_lock lock(mutex_);
    arrived_.wait(lock, [&] { return !arrivals_.empty(); });
    Arrival arrival = std::move(arrivals_.front());
    arrivals_.pop_front();
    staged_ -= arrival.bytes.size();
    ++taken_;
    lock.unlock();
    taken_signal_.notify_one();
    return arrival;
  }

  /// Whether anything is still to be taken.
  [[nodiscard]] bool more() const noexcept { return taken_ < requests_.size(); }
  /// Whether next() would not block.
  [[nodiscard]] bool ready() {
    const std::lock_guard lock(mutex_);
    return !arrivals_.empty();
  }

  /// The layer that the next arrival belongs to, or the number of layers after the last one.
  [[nodiscard]] std::size_t next_layer() const noexcept {
    return taken_ < requests_.size() ? requests_[taken_].chunks.front().layer : manifest_.layers;
  }

  /// The block that the next arrival belongs to.
  /// @throws PreconditionError after the last one
  [[nodiscard]] std::size_t next_block() const {
    expects(more(), "LinkLane: nothing more is to come");
    return requests_[taken_].chunks.front().block;
  }

  /// Gives a buffer back for reading into.
  void recycle(std::vector<std::byte> buffer) {
    const std::lock_guard lock(mutex_);
    spare_.push_back(std::move(buffer));
  }

  /// Ends the reading, finished or not. The figures below may be read afterwards.
  void stop() {
    reader_.request_stop();
    taken_signal_.notify_all();
    if (reader_.joinable()) reader_.join();
  }

  [[nodiscard]] double busy_s() const noexcept { return busy_s_; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] const std::vector<std::pair<TimePoint, TimePoint>>& spans() const noexcept { return spans_; }
  [[nodiscard]] const std::vector<ReadRequest>& requests() const noexcept { return requests_; }

 private:
  static constexpr std::size_t staging = 64U << 20;

  void read_all(const std::stop_token& stop) {
    for (const ReadRequest& request : requests_) {
      Arrival arrival{request, {}, {}, std::vector<bool>(request.chunks.size(), false)};
      {
        std::unique_lock lock(mutex_);
        taken_signal_.wait(lock, stop, [&] { return staged_ == 0 || staged_ + request.bytes <= staging; });
        if (stop.stop_requested()) return;
        staged_ += request.bytes;
        if (!spare_.empty()) {
          arrival.bytes = std::move(spare_.back());
          spare_.pop_back();
        }
      }
      arrival.bytes.resize(request.bytes);
      const TimePoint begin = clock_.now();
      arrival.status = store_.get(folder_ + "/" + manifest_.objects[request.object], request.offset, arrival.bytes);
      if (arrival.status) check(arrival);
      const TimePoint end = clock_.now();
      busy_s_ += seconds(end - begin);
      if (arrival.status) bytes_ += request.bytes;
      spans_.emplace_back(begin, end);
      {
        const std::lock_guard lock(mutex_);
        arrivals_.push_back(std::move(arrival));
      }
      arrived_.notify_one();
    }
  }

  void check(Arrival& arrival) const {
    std::size_t at = 0;
    for (std::size_t i = 0; i < arrival.request.chunks.size(); ++i) {
      const ChunkPlace& place = arrival.request.chunks[i];
      const ChunkRecord& chunk = manifest_.chunk(place.layer, place.block);
      arrival.good[i] = checksum(std::span(arrival.bytes).subspan(at, chunk.bytes)) == chunk.hash;
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
  std::deque<Arrival> arrivals_;
  std::vector<std::vector<std::byte>> spare_;
  std::size_t staged_ = 0;
  std::size_t taken_ = 0;  // by the cores' thread only
  double busy_s_ = 0;
  std::uint64_t bytes_ = 0;
  std::vector<std::pair<TimePoint, TimePoint>> spans_;
  std::jthread reader_;  // last: starts when all else is there
};

}  // namespace krul
