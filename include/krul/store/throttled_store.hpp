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
#include "krul/store/object_sizes.hpp"
#include "krul/store/ranged_reads.hpp"
#include "krul/store/whole_object.hpp"

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

/// A store behind a link of a stated speed: each call waits for the link's latency once, however much is asked for
/// together, and what is read returns when its last byte would have arrived. What is written passes at once. Requests
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
    return get_from(clock_.now() + link_->latency, key, offset, to);
  }
  void get_together(std::span<const RangedRead> reads, const RequestLimits& limits, const ReadEnd& ended) {
    const TimePoint first = clock_.now() + link_->latency;
    for (std::size_t i = 0; i < reads.size(); ++i) {
      Status status = limits.check(clock_.now());
      if (status) status = get_from(first, reads[i].key, reads[i].offset, reads[i].to);
      ended(i, status);
    }
  }
  [[nodiscard]] Result<std::vector<std::byte>> load(const std::string& key, std::uint64_t most) {
    TimePoint arrival = clock_.now() + link_->latency;
    auto bytes = load_object(store_, key, most);
    for (std::size_t sent = 0; bytes && sent < bytes->size(); sent += piece)
      arrival = send(std::min(piece, bytes->size() - sent), arrival);
    clock_.sleep_until(arrival);
    return bytes;
  }

  [[nodiscard]] Status put(const std::string& key, std::span<const std::byte> bytes) {
    return after_latency([&] { return store_.put(key, bytes); });
  }
  [[nodiscard]] Result<std::uint64_t> size(const std::string& key) {
    return after_latency([&] { return store_.size(key); });
  }
  [[nodiscard]] std::vector<Result<std::uint64_t>> sizes(std::span<const std::string> keys) {
    return after_latency([&] { return object_sizes(store_, keys); });
  }
  [[nodiscard]] Status erase(const std::string& key) {
    return after_latency([&] { return store_.erase(key); });
  }
  [[nodiscard]] Result<std::vector<std::string>> list(const std::string& folder) {
    return after_latency([&] { return store_.list(folder); });
  }
  [[nodiscard]] Result<Lock> lock(const std::string& folder) {
    return after_latency([&] { return store_.lock(folder); });
  }
  [[nodiscard]] StoreCapabilities capabilities() {
    StoreCapabilities found = store_.capabilities();
    found.distant = found.distant || link_->latency > Duration::zero();
    return found;
  }

  /// Makes the next get start from an empty bucket, however long the link was idle: call it before a measurement.
  void empty_bucket() {
    const std::lock_guard guard(link_->mutex);
    link_->schedule.empty_bucket(clock_.now());
  }

 private:
  static constexpr std::size_t piece = 64 << 10;
  static constexpr Duration longest_lead = std::chrono::milliseconds(2);  ///< that pieces may be taken ahead of time

  struct Link {
    Link(LinkSpeed speed, TimePoint now) : latency(speed.latency), schedule(speed, now) {}
    const Duration latency;
    std::mutex mutex;
    LinkSchedule schedule;
  };

  /// @param ready  when the first byte can be there
  [[nodiscard]] Status get_from(TimePoint ready, const std::string& key, std::uint64_t offset,
                                std::span<std::byte> to) {
    TimePoint arrival = ready;
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

  template <class Call>
  [[nodiscard]] auto after_latency(Call&& call) {
    if (link_->latency > Duration::zero()) clock_.sleep_until(clock_.now() + link_->latency);
    return call();
  }

  TimePoint send(std::uint64_t bytes, TimePoint ready) {
    const std::lock_guard guard(link_->mutex);
    return link_->schedule.send(bytes, ready);
  }

  Store store_;
  C clock_;
  std::shared_ptr<Link> link_;
};

}  // namespace krul
