#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/core/clock.hpp"
#include "krul/store/bring_near.hpp"
#include "krul/store/conversation_store.hpp"
#include "krul/store/memory_store.hpp"
#include "krul/store/object_sizes.hpp"
#include "krul/store/other_names.hpp"
#include "krul/store/ranged_reads.hpp"
#include "krul/store/store_counts.hpp"
#include "krul/store/store_event.hpp"
#include "krul/store/whole_object.hpp"

namespace krul {

/// A store that counts what it is asked for, and tells of each call whoever wants to know. Copies share the counts.
/// A call costs two looks at the clock and a short lock more.
template <ConversationStore Store, Clock C = SteadyClock>
class CountedStore {
 public:
  using Lock = typename Store::Lock;

  /// @param sink  may be empty; what it throws leaves the call, which is counted
  explicit CountedStore(Store store, StoreEventSink sink = {}, C clock = {})
      : store_(std::move(store)), clock_(std::move(clock)), state_(std::make_shared<State>()) {
    state_->sink = std::move(sink);
  }

  [[nodiscard]] Status put(const std::string& key, std::span<const std::byte> bytes) {
    return timed(StoreOperation::put, key, bytes.size(), [&] { return store_.put(key, bytes); });
  }
  [[nodiscard]] Status get(const std::string& key, std::uint64_t offset, std::span<std::byte> to) {
    return timed(StoreOperation::get, key, to.size(), [&] { return store_.get(key, offset, to); });
  }
  [[nodiscard]] Result<std::uint64_t> size(const std::string& key) {
    return timed(StoreOperation::size, key, 0, [&] { return store_.size(key); });
  }
  [[nodiscard]] Status erase(const std::string& key) {
    return timed(StoreOperation::erase, key, 0, [&] { return store_.erase(key); });
  }
  [[nodiscard]] Result<std::vector<std::string>> list(const std::string& folder) {
    return timed(StoreOperation::list, folder, 0, [&] { return store_.list(folder); });
  }
  [[nodiscard]] Result<Lock> lock(const std::string& folder) {
    return timed(StoreOperation::lock, folder, 0, [&] { return store_.lock(folder); });
  }
  [[nodiscard]] StoreCapabilities capabilities() { return store_.capabilities(); }

  void get_together(std::span<const RangedRead> reads, const RequestLimits& limits, const ReadEnd& ended) {
    const TimePoint begin = clock_.now();
    krul::get_together(
        store_, reads, limits,
        [&](std::size_t i, const Status& status) {
          tell(StoreOperation::get, reads[i].key, reads[i].to.size(), clock_.now() - begin, status);
          ended(i, status);
        },
        clock_);
  }
  [[nodiscard]] std::vector<Result<std::uint64_t>> sizes(std::span<const std::string> keys) {
    const TimePoint begin = clock_.now();
    auto found = object_sizes(store_, keys);
    const Duration duration = clock_.now() - begin;
    for (std::size_t i = 0; i < found.size(); ++i) tell(StoreOperation::size, keys[i], 0, duration, found[i]);
    return found;
  }
  [[nodiscard]] Result<std::vector<std::byte>> load(const std::string& key, std::uint64_t most) {
    const TimePoint begin = clock_.now();
    auto bytes = load_object(store_, key, most);
    tell(StoreOperation::load, key, bytes ? bytes->size() : 0, clock_.now() - begin, bytes);
    return bytes;
  }

  // Not counted: the store's own housekeeping.
  [[nodiscard]] Result<std::uint64_t> bring_near(const std::string& folder) { return krul::bring_near(store_, folder); }
  [[nodiscard]] std::vector<std::string> dead_writes() { return krul::dead_writes(store_); }
  [[nodiscard]] std::vector<std::string> dead_writes(const std::string& folder) {
    return krul::dead_writes(store_, folder);
  }
  [[nodiscard]] Result<std::vector<std::string>> foreign_names(const std::string& folder) {
    return krul::foreign_names(store_, folder);
  }

  /// As of now, all of one moment.
  [[nodiscard]] StoreCounts counts() const {
    const std::lock_guard guard(state_->mutex);
    return state_->counts;
  }

 private:
  struct State {
    std::mutex mutex;
    StoreCounts counts;
    StoreEventSink sink;
  };

  template <class Call>
  auto timed(StoreOperation operation, const std::string& key, std::uint64_t bytes, Call&& call) {
    const TimePoint begin = clock_.now();
    auto result = call();
    tell(operation, key, bytes, clock_.now() - begin, result);
    return result;
  }

  template <class T>
  void tell(StoreOperation operation, const std::string& key, std::uint64_t bytes, Duration duration,
            const Result<T>& result) {
    const StoreEvent event{operation, key, result ? bytes : 0, duration, result ? nullptr : &result.error()};
    {
      const std::lock_guard guard(state_->mutex);
      state_->counts.add(event);
    }
    if (state_->sink) state_->sink(event);
  }

  Store store_;
  C clock_;
  std::shared_ptr<State> state_;
};
static_assert(ReadsTogether<CountedStore<MemoryStore>> && SizesTogether<CountedStore<MemoryStore>> &&
              LoadsWhole<CountedStore<MemoryStore>> && TellsOtherNames<CountedStore<MemoryStore>>);

}  // namespace krul
