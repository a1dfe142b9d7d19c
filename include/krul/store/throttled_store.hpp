#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/core/clock.hpp"
#include "krul/store/conversation_store.hpp"

namespace krul {

/// A link of a stated speed.
struct LinkSpeed {
  std::uint64_t bytes_per_s = 0;   ///< > 0
  Duration latency{};              ///< from a request to its first byte, >= 0; requests may wait side by side
  std::uint64_t burst = 64 << 10;  ///< bytes that may pass at once after a pause, at most 64 KiB
};

/// The time at which bytes have crossed a link that all requests share: a token bucket that is empty at the start.
/// Requests take turns piece by piece. Times are computed, not measured, so a late wake-up costs no throughput.
class LinkSchedule {
 public:
  /// @throws PreconditionError if the speed is 0, the latency negative or the burst above 64 KiB
  LinkSchedule(LinkSpeed speed, TimePoint now) : speed_(speed), drained_(now) {
    expects(speed.bytes_per_s > 0, "LinkSchedule: the speed must be positive");
    expects(speed.latency >= Duration::zero(), "LinkSchedule: the latency must not be negative");
    expects(speed.burst <= 64 << 10, "LinkSchedule: the burst must be at most 64 KiB");
  }

  /// Sends `bytes` (at most 64 KiB) that are ready at `ready`; the time at which the last of them arrives:
  /// max(ready, max(end of what was sent before, ready - burst / speed) + bytes / speed), times rounded up to 1 ns.
  TimePoint send(std::uint64_t bytes, TimePoint ready) {
    drained_ = std::max(drained_, ready - time_of(speed_.burst)) + time_of(bytes);
    return std::max(drained_, ready);
  }

  /// Forgets what a pause has saved up.
  void empty_bucket(TimePoint now) { drained_ = std::max(drained_, now); }

  [[nodiscard]] const LinkSpeed& speed() const noexcept { return speed_; }

 private:
  [[nodiscard]] Duration time_of(std::uint64_t bytes) const noexcept {
    return Duration((bytes * 1'000'000'000 + speed_.bytes_per_s - 1) / speed_.bytes_per_s);
  }

  LinkSpeed speed_;
  TimePoint drained_;  // when all that was sent has passed; before now: what may pass at once
};

/// A store whose reads come over a link of a stated speed: get returns when its last byte would have arrived. Requests
/// that share the link take turns in pieces of 64 KiB; the reader sleeps through several of them, as one whose bytes
/// are put in place by a network card does. The store behind it is taken to be faster than the link. Copies share the
/// link.
template <ConversationStore Store, Clock C = SteadyClock>
class ThrottledStore {
 public:
  using Lock = typename Store::Lock;

  /// @throws PreconditionError as LinkSchedule
  ThrottledStore(Store store, LinkSpeed speed, C clock = {})
      : store_(std::move(store)), clock_(std::move(clock)), link_(std::make_shared<Link>(speed, clock_.now())) {}

  [[nodiscard]] Status get(const std::string& key, std::uint64_t offset, std::span<std::byte> to) {
    constexpr std::size_t piece = 64 << 10;
    TimePoint arrival = clock_.now() + link_->latency;
    std::size_t done = 0;
    do {
      const auto part = to.subspan(done, std::min(piece, to.size() - done));
      const Status status = store_.get(key, offset + done, part);
      if (status) arrival = send(part.size(), arrival);
      done += part.size();
      // Woken for every piece, the reader would take a core away from whoever computes meanwhile.
      if (!status || done == to.size() || arrival > clock_.now() + longest_lead) clock_.sleep_until(arrival);
      if (!status) return status;
    } while (done < to.size());
    return {};
  }

  [[nodiscard]] Status put(const std::string& key, std::span<const std::byte> bytes) { return store_.put(key, bytes); }
  [[nodiscard]] Result<std::uint64_t> size(const std::string& key) { return store_.size(key); }
  [[nodiscard]] Status erase(const std::string& key) { return store_.erase(key); }
  [[nodiscard]] Result<std::vector<std::string>> list(const std::string& folder) { return store_.list(folder); }
  [[nodiscard]] Result<Lock> lock(const std::string& folder) { return store_.lock(folder); }
  [[nodiscard]] StoreCapabilities capabilities() { return store_.capabilities(); }

  /// Makes the next get start from an empty bucket, however long the link was idle: call it before a measurement.
  void empty_bucket() {
    const std::lock_guard guard(link_->mutex);
    link_->schedule.empty_bucket(clock_.now());
  }

 private:
  static constexpr Duration longest_lead = std::chrono::milliseconds(2);  ///< that pieces may be taken ahead of time

  struct Link {
    Link(LinkSpeed speed, TimePoint now) : latency(speed.latency), schedule(speed, now) {}
    const Duration latency;
    std::mutex mutex;
    LinkSchedule schedule;
  };

  TimePoint send(std::uint64_t bytes, TimePoint ready) {
    const std::lock_guard guard(link_->mutex);
    return link_->schedule.send(bytes, ready);
  }

  Store store_;
  C clock_;
  std::shared_ptr<Link> link_;
};

}  // namespace krul
