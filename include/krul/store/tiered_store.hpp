#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "krul/core/clock.hpp"
#include "krul/store/conversation_store.hpp"
#include "krul/store/manifest_store.hpp"
#include "krul/store/memory_store.hpp"
#include "krul/store/object_sizes.hpp"
#include "krul/store/other_names.hpp"
#include "krul/store/ranged_reads.hpp"
#include "krul/store/segment.hpp"
#include "krul/store/whole_object.hpp"

namespace krul {

enum class WriteMode : std::uint8_t {
  through,  ///< to the far store first, then to the near one: what put acknowledged is as safe as the far store makes
            ///< it
  back,  ///< to the near store alone, until flush or the death of the folder's lock: what was not flushed is lost with
         ///< the process, and others see it late. The near store must be nobody else's
};

/// What a lock does with a conversation whose manifest is near and not far.
enum class NearAlone : std::uint8_t {
  refuse,  ///< fails and changes nothing: the far store may be the wrong one, or have lost what it held
  forget,  ///< erases the near copies: for far stores that let go of what they hold, by expiry or eviction
};

struct TierOptions {
  WriteMode writes = WriteMode::through;
  NearAlone near_alone = NearAlone::refuse;
  bool keep_reads = true;                 ///< what the near store lacks is copied there when it is read by itself
  std::uint64_t largest_kept = 64 << 20;  ///< bytes of an object that is read whole for that
};

/// A near store before a far one, which is the one that counts: TieredStore(memory, TieredStore(file, distant)) has
/// three tiers. The near store, once it is open, fails no call: what it lacks, cannot take or cannot read comes from
/// the far one.
///
/// Segments never change under their name, so a near copy is as good as the far one, and is read alone. All other
/// objects (manifests, loans) are read far; their near copies stand in only while the far store cannot be asked (io,
/// deadline), and may then be older: for readers, not in a folder that is locked here, as who writes must not erase by
/// what was once so. A near copy whose bytes were damaged unnoticed is found by the chunks' checksums
/// and recomputed; the next save writes the chunk anew.
///
/// get and load copy an object near when they read it, whole. Reads together copy nothing, so that they are as fast as
/// the far store: bring_near does that for a folder, before or after. Lists and sizes are the far store's; near copies
/// of what others erased go when the folder's lock is taken, but for a conversation that is near alone: see NearAlone.
/// A lock is the far store's, with the near one's if it can be had. Copies share what waits to be flushed.
template <ConversationStore Near, ConversationStore Far, Clock C = SteadyClock>
class TieredStore {
  struct State;

 public:
  /// The right to write one folder. With WriteMode::back it flushes the folder when it dies; what fails then waits on.
  class Lock {
   public:
    Lock(Lock&&) noexcept = default;
    Lock& operator=(Lock&&) = delete;
    ~Lock() {
      if (!state_) return;
      state_->set_locked(folder_, false);
      try {
        static_cast<void>(state_->flush(folder_));
      } catch (const std::bad_alloc&) {
        // What could not be read for want of memory waits as well.
      }
    }

   private:
    friend TieredStore;
    Lock(std::shared_ptr<State> state, std::string folder, typename Far::Lock far,
         std::optional<typename Near::Lock> near)
        : far_(std::move(far)), near_(std::move(near)), state_(std::move(state)), folder_(std::move(folder)) {}
    typename Far::Lock far_;
    std::optional<typename Near::Lock> near_;
    std::shared_ptr<State> state_;
    std::string folder_;
  };

  TieredStore(Near near, Far far, TierOptions options = {}, C clock = {})
      : state_(std::make_shared<State>(std::move(near), std::move(far))), options_(options), clock_(std::move(clock)) {}

  [[nodiscard]] Status put(const std::string& key, std::span<const std::byte> bytes) {
    expects(is_store_key(key), "TieredStore::put: not a store key");
    if (options_.writes == WriteMode::back) return put_back(key, bytes);
    const Status status = state_->far.put(key, bytes);
    // An old copy must not stay where the new one has no room.
    if (status && !state_->near.put(key, bytes)) static_cast<void>(state_->near.erase(key));
    return status;
  }

  [[nodiscard]] Status get(const std::string& key, std::uint64_t offset, std::span<std::byte> to) {
    expects(is_store_key(key), "TieredStore::get: not a store key");
    if (state_->is_waiting(key)) return state_->near.get(key, offset, to);
    if (is_segment(key) && state_->near.get(key, offset, to)) return {};
    if (options_.keep_reads && is_segment(key) && !state_->near.size(key)) {
      const auto whole = bring(key, options_.largest_kept);
      if (!whole && whole.error().code != ErrorCode::too_large) return propagate(whole);
      if (whole && offset <= whole->size() && to.size() <= whole->size() - offset) {
        std::copy_n(whole->begin() + static_cast<std::ptrdiff_t>(offset), to.size(), to.begin());
        return {};
      }
    }
    Status status = state_->far.get(key, offset, to);
    if (!status && may_stand_in(key, status.error().code) && state_->near.get(key, offset, to)) return {};
    return status;
  }

  [[nodiscard]] Result<std::uint64_t> size(const std::string& key) {
    if (state_->is_waiting(key)) return state_->near.size(key);
    auto size = state_->far.size(key);
    if (!size && may_stand_in(key, size.error().code))
      if (auto near = state_->near.size(key)) return near;
    return size;
  }

  /// From both. The far store's error; a near copy that cannot be erased is left for the folder's next lock.
  [[nodiscard]] Status erase(const std::string& key) {
    const std::lock_guard guard(state_->mutex);
    const Status near = state_->near.erase(key);
    const Status far = state_->far.erase(key);
    // What waits for the far store would come back.
    if (near || far) state_->waiting.erase(key);
    return far;
  }

  /// The far store's objects, and those that wait for it; the near store's while the far one cannot be asked.
  [[nodiscard]] Result<std::vector<std::string>> list(const std::string& folder) {
    auto names = state_->far.list(folder);
    if (!names && is_out_of_reach(names.error().code) && !state_->is_locked(folder))
      if (auto near = state_->near.list(folder)) return near;
    if (!names) return names;
    {
      const std::lock_guard guard(state_->mutex);
      for (const std::string& key : state_->waiting)
        if (folder.empty())
          names->push_back(key.substr(0, 32));
        else if (key.starts_with(folder))
          names->push_back(key.substr(33));
    }
    std::sort(names->begin(), names->end());
    names->erase(std::unique(names->begin(), names->end()), names->end());
    return names;
  }

  /// @return what the far store says; invalid_argument for a conversation that is near alone, unless NearAlone::forget
  ///         or this store has yet to flush it; then nothing was changed
  [[nodiscard]] Result<Lock> lock(const std::string& folder) {
    auto far = state_->far.lock(folder);
    if (!far) return propagate(far);
    std::optional<typename Near::Lock> near;
    if (auto held = state_->near.lock(folder)) near.emplace(std::move(*held));
    if (const Status swept = sweep(folder); !swept) return propagate(swept);
    state_->set_locked(folder, true);
    return Lock(state_, folder, std::move(*far), std::move(near));
  }

  /// The far store's; what is written back is not durable before it is flushed.
  [[nodiscard]] StoreCapabilities capabilities() {
    StoreCapabilities found = state_->far.capabilities();
    found.durable = found.durable && options_.writes == WriteMode::through;
    return found;
  }

  void get_together(std::span<const RangedRead> reads, const RequestLimits& limits, const ReadEnd& ended) {
    for (const RangedRead& read : reads) expects(is_store_key(read.key), "TieredStore: not a store key");
    // First what is near, which takes no time worth speaking of; all the rest is asked for at once.
    std::vector<std::size_t> rest;
    std::vector<RangedRead> far;
    for (std::size_t i = 0; i < reads.size(); ++i) {
      const RangedRead& read = reads[i];
      if (const Status status = limits.check(clock_.now()); !status) {
        ended(i, status);
      } else if (state_->is_waiting(read.key)) {
        ended(i, state_->near.get(read.key, read.offset, read.to));
      } else if (is_segment(read.key) && state_->near.get(read.key, read.offset, read.to)) {
        ended(i, {});
      } else {
        rest.push_back(i);
        far.push_back(read);
      }
    }
    krul::get_together(
        state_->far, far, limits,
        [&](std::size_t i, const Status& status) {
          const RangedRead& read = far[i];
          const bool stands_in = !status && status.error().code == ErrorCode::io &&
                                 may_stand_in(read.key, status.error().code) &&
                                 state_->near.get(read.key, read.offset, read.to).has_value();
          ended(rest[i], stands_in ? Status() : status);
        },
        clock_);
  }

  [[nodiscard]] std::vector<Result<std::uint64_t>> sizes(std::span<const std::string> keys) {
    auto found = object_sizes(state_->far, keys);
    for (std::size_t i = 0; i < keys.size(); ++i)
      if (state_->is_waiting(keys[i]) || (!found[i] && may_stand_in(keys[i], found[i].error().code)))
        if (auto near = state_->near.size(keys[i])) found[i] = near;
    return found;
  }

  [[nodiscard]] Result<std::vector<std::byte>> load(const std::string& key, std::uint64_t most) {
    expects(is_store_key(key), "TieredStore::load: not a store key");
    if (state_->is_waiting(key)) return load_object(state_->near, key, most);
    if (is_segment(key)) {
      auto bytes = load_object(state_->near, key, most);
      if (bytes || bytes.error().code == ErrorCode::too_large) return bytes;
    }
    auto bytes = options_.keep_reads ? bring(key, most) : load_object(state_->far, key, most);
    if (!bytes && may_stand_in(key, bytes.error().code))
      if (auto near = load_object(state_->near, key, most)) return near;
    return bytes;
  }

  [[nodiscard]] std::vector<std::string> dead_writes() { return krul::dead_writes(state_->far); }
  [[nodiscard]] std::vector<std::string> dead_writes(const std::string& folder) {
    return krul::dead_writes(state_->far, folder);
  }
  [[nodiscard]] Result<std::vector<std::string>> foreign_names(const std::string& folder) {
    return krul::foreign_names(state_->far, folder);
  }

  /// Writes to the far store what of a folder waits for it, segments before manifests. Call it under the folder's lock.
  /// @return the first error; then the rest waits on
  [[nodiscard]] Status flush(const std::string& folder) {
    expects(is_store_folder(folder), "TieredStore::flush: not a folder");
    return state_->flush(folder);
  }
  /// Keys of objects that wait to be flushed, sorted.
  [[nodiscard]] std::vector<std::string> waiting() const {
    const std::lock_guard guard(state_->mutex);
    return {state_->waiting.begin(), state_->waiting.end()};
  }

  /// Copies those segments of a folder near that are not there yet, up to TierOptions::largest_kept bytes each.
  /// @return bytes that were copied; what the far store fails with. A near store that is full takes what it can
  [[nodiscard]] Result<std::uint64_t> bring_near(const std::string& folder) {
    const auto names = state_->far.list(folder);
    if (!names) return propagate(names);
    std::uint64_t bytes = 0;
    for (const std::string& name : *names) {
      const std::string key = folder + "/" + name;
      if (!is_segment(key) || state_->near.size(key)) continue;
      const auto whole = load_object(state_->far, key, options_.largest_kept);
      if (!whole) {
        if (whole.error().code == ErrorCode::not_found || whole.error().code == ErrorCode::too_large) continue;
        return propagate(whole);
      }
      if (state_->near.put(key, *whole)) bytes += whole->size();
    }
    return bytes;
  }

 private:
  struct State {
    State(Near n, Far f) : near(std::move(n)), far(std::move(f)) {}
    Near near;
    Far far;
    mutable std::mutex mutex;       // of what follows; held while it is decided which copy of an object counts
    std::set<std::string> waiting;  // in the near store alone
    std::set<std::string> locked;   // folders that are written through this store

    [[nodiscard]] bool is_waiting(const std::string& key) const {
      const std::lock_guard guard(mutex);
      return waiting.contains(key);
    }
    [[nodiscard]] bool is_locked(const std::string& folder) const {
      const std::lock_guard guard(mutex);
      return locked.contains(folder);
    }
    void set_locked(const std::string& folder, bool is) {
      const std::lock_guard guard(mutex);
      if (is)
        locked.insert(folder);
      else
        locked.erase(folder);
    }
    [[nodiscard]] Status flush(const std::string& folder) {
      const std::lock_guard guard(mutex);
      std::vector<std::string> keys;
      for (auto at = waiting.lower_bound(folder); at != waiting.end() && at->starts_with(folder); ++at)
        keys.push_back(*at);
      // Manifests last, and the first copy first, as they are published.
      std::stable_partition(keys.begin(), keys.end(), [](const std::string& key) { return !is_manifest(key); });
      for (const std::string& key : keys) {
        const auto bytes = load_object(near, key, UINT64_MAX);
        if (!bytes) return propagate(bytes);
        if (const Status status = far.put(key, *bytes); !status) return status;
        waiting.erase(key);
      }
      return {};
    }
  };

  [[nodiscard]] static bool is_segment(const std::string& key) { return is_segment_name(key.substr(33)); }
  [[nodiscard]] static bool is_manifest(const std::string& key) { return is_manifest_name(key.substr(33)); }
  /// Whether a near copy is as good, now that the far store failed so.
  [[nodiscard]] bool may_stand_in(const std::string& key, ErrorCode code) const {
    return is_out_of_reach(code) && (is_segment(key) || !state_->is_locked(key.substr(0, 32)));
  }
  [[nodiscard]] Status put_back(const std::string& key, std::span<const std::byte> bytes) {
    const std::lock_guard guard(state_->mutex);
    if (state_->near.put(key, bytes)) {
      state_->waiting.insert(key);
      return {};
    }
    const Status status = state_->far.put(key, bytes);
    if (!status) return status;
    state_->waiting.erase(key);
    static_cast<void>(state_->near.erase(key));
    return {};
  }

  /// The far store's object, copied near.
  [[nodiscard]] Result<std::vector<std::byte>> bring(const std::string& key, std::uint64_t most) {
    auto bytes = load_object(state_->far, key, most);
    if (!bytes || bytes->size() > options_.largest_kept) return bytes;
    const auto keep = [&] {
      if (!state_->near.put(key, *bytes) && !is_segment(key)) static_cast<void>(state_->near.erase(key));
    };
    if (options_.writes == WriteMode::through) {
      keep();
    } else {
      // What waits must not be replaced by what it will replace.
      const std::lock_guard guard(state_->mutex);
      if (!state_->waiting.contains(key)) keep();
    }
    return bytes;
  }

  /// Erases near copies of what the far store has no more. What cannot be listed or erased near is left.
  [[nodiscard]] Status sweep(const std::string& folder) {
    const auto near = state_->near.list(folder), far = state_->far.list(folder);
    if (!near) return {};
    if (options_.near_alone == NearAlone::refuse && std::ranges::any_of(*near, is_manifest_name) &&
        !waits_manifest(folder)) {
      if (!far) return propagate(far);  // who writes now may replace the only manifest
      if (std::ranges::none_of(*far, is_manifest_name))
        return fail(ErrorCode::invalid_argument,
                    "conversation folder " + folder +
                        " is in the near store alone: the far one may be the wrong one or was emptied, or the "
                        "conversation was erased there. To keep it, copy it from the near store to the far one (krul "
                        "copy NEAR FAR); to be rid of it, erase it in the near store alone (krul erase --store NEAR)");
    }
    if (!far) return {};
    std::vector<std::string> gone;
    std::set_difference(near->begin(), near->end(), far->begin(), far->end(), std::back_inserter(gone));
    for (const std::string& name : gone) {
      const std::string key = folder + "/" + name;
      if (!state_->is_waiting(key)) static_cast<void>(state_->near.erase(key));
    }
    return {};
  }
  [[nodiscard]] bool waits_manifest(const std::string& folder) const {
    return std::ranges::any_of(
        manifest_names, [&](std::string_view name) { return state_->is_waiting(folder + "/" + std::string(name)); });
  }

  std::shared_ptr<State> state_;
  TierOptions options_;
  C clock_;
};
static_assert(ReadsTogether<TieredStore<MemoryStore, MemoryStore>> &&
              SizesTogether<TieredStore<MemoryStore, MemoryStore>> &&
              LoadsWhole<TieredStore<MemoryStore, MemoryStore>> &&
              TellsOtherNames<TieredStore<MemoryStore, MemoryStore>>);

}  // namespace krul
