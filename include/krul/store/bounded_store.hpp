#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/core/clock.hpp"
#include "krul/store/conversation_store.hpp"
#include "krul/store/erasable.hpp"
#include "krul/store/eviction.hpp"
#include "krul/store/folder_sizes.hpp"
#include "krul/store/give_back.hpp"
#include "krul/store/manifest_store.hpp"
#include "krul/store/memory_store.hpp"
#include "krul/store/object_sizes.hpp"
#include "krul/store/other_names.hpp"
#include "krul/store/ranged_reads.hpp"
#include "krul/store/whole_object.hpp"

namespace krul {

struct StoreBounds {
  std::uint64_t bytes = 0;               ///< of all objects, > 0; both versions of one that is being replaced count
  std::uint64_t conversation_bytes = 0;  ///< of one folder's objects, counted as well; 0: as many as all may have
  /// Now, in seconds since 1970: tells how old is what was saved before.
  std::uint64_t unix_s = static_cast<std::uint64_t>(std::max<std::int64_t>(
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count(),
      0));
};

/// A store that never holds more than a number of bytes: a put that needs room erases whole conversations first, those
/// that the policy finds least worth keeping. The folder that is written is never one of them, nor one that anybody has
/// locked. Segments that are lent to forks stay, and what an erased fork borrowed is given back. Where that makes too
/// little room nothing is erased, and the put fails with no_space. Who restores a conversation meanwhile recomputes
/// what is gone.
///
/// Every object counts, whoever wrote it. What is there is counted when the store is opened. What others write to the
/// store behind it is seen when their folder is locked through this one, when it is looked at for room, before a put
/// fails for want of it, and by recount(): until then it is not bounded. A conversation was last used when it was read,
/// written or locked through this store or its copies, or else when it was saved, as its manifest says. What has no
/// manifest that can be used, such as a save that was cut off, has no tokens; so encrypt below this store, not above.
///
/// To choose, the manifest of each conversation is read once, and again after it was written. Copies share the counts.
template <ConversationStore Store, EvictionPolicy Policy = RecomputePerByte, Clock C = SteadyClock>
class BoundedStore {
 public:
  using Lock = typename Store::Lock;

  /// Counts what is there, which may be more than allowed: the next put makes room. What of a folder cannot be counted
  /// counts once it can.
  /// @return what the store says if it cannot list its folders, or is distant and went out of reach
  /// @throws PreconditionError if no bytes are allowed
  /// @complexity  one question for each folder, and one for each object where sizes are not told together
  [[nodiscard]] static Result<BoundedStore> open(Store store, StoreBounds bounds, Policy policy = {}, C clock = {}) {
    expects(bounds.bytes > 0, "BoundedStore::open: no bytes are allowed");
    if (bounds.conversation_bytes == 0) bounds.conversation_bytes = bounds.bytes;
    BoundedStore bounded(std::move(store), bounds, std::move(policy), std::move(clock));
    const auto folders = bounded.known_folders();
    if (!folders) return propagate(folders);
    const bool distant = bounded.capabilities().distant;
    for (const std::string& folder : *folders) {
      const Status status = bounded.recount(folder);
      // A folder that is damaged, or that nobody may read, is no reason to be without all the others.
      if (!status && distant && is_out_of_reach(status.error().code)) return propagate(status);
    }
    return bounded;
  }

  [[nodiscard]] Status put(const std::string& key, std::span<const std::byte> bytes) {
    expects(is_store_key(key), "BoundedStore::put: not a store key");
    const std::string folder = key.substr(0, 32), object = key.substr(33);
    const std::lock_guard alone(state_->writing(key));
    if (const Status room = reserve(folder, bytes.size()); !room) return room;
    const Status status = store_.put(key, bytes);
    // After a failure it is the old one, the new one or, where that cannot be told, the larger of both.
    const auto now = status ? Result<std::uint64_t>(bytes.size()) : store_.size(key);
    const std::lock_guard guard(state_->mutex);
    Folder& at = state_->at(folder);
    const std::uint64_t before = at.sizes.bytes();
    if (now)
      at.sizes.set(object, *now);
    else if (now.error().code == ErrorCode::not_found)
      at.sizes.forget(object);
    else
      at.sizes.set(object, std::max<std::uint64_t>(bytes.size(), at.sizes.of(object)));
    state_->used = state_->used - before + at.sizes.bytes() - bytes.size();
    at.reserved -= bytes.size();
    at.changes = ++state_->changes;
    if (is_manifest_name(object)) at.saved.reset();
    return status;
  }

  [[nodiscard]] Status get(const std::string& key, std::uint64_t offset, std::span<std::byte> to) {
    touch(key);
    return store_.get(key, offset, to);
  }
  [[nodiscard]] Result<std::uint64_t> size(const std::string& key) { return store_.size(key); }
  [[nodiscard]] Status erase(const std::string& key) {
    expects(is_store_key(key), "BoundedStore::erase: not a store key");
    const std::lock_guard alone(state_->writing(key));
    const Status status = store_.erase(key);
    const auto size = status ? Result<std::uint64_t>(0) : store_.size(key);
    const bool is_gone = status || (!size && size.error().code == ErrorCode::not_found);
    const std::lock_guard guard(state_->mutex);
    const auto at = state_->folders.find(key.substr(0, 32));
    if (!is_gone || at == state_->folders.end()) return status;
    const std::string object = key.substr(33);
    state_->used -= at->second.sizes.of(object);
    at->second.sizes.forget(object);
    at->second.changes = ++state_->changes;
    if (is_manifest_name(object)) at->second.saved.reset();
    return status;
  }
  [[nodiscard]] Result<std::vector<std::string>> list(const std::string& folder) { return store_.list(folder); }
  /// Counts the folder anew.
  [[nodiscard]] Result<Lock> lock(const std::string& folder) {
    auto lock = store_.lock(folder);
    if (lock) {
      // What cannot be counted now counts as before.
      static_cast<void>(recount(folder));
      touch(folder);
    }
    return lock;
  }
  [[nodiscard]] StoreCapabilities capabilities() { return store_.capabilities(); }
  void get_together(std::span<const RangedRead> reads, const RequestLimits& limits, const ReadEnd& ended) {
    for (const RangedRead& read : reads) touch(read.key);
    krul::get_together(store_, reads, limits, ended, clock_);
  }
  [[nodiscard]] std::vector<Result<std::uint64_t>> sizes(std::span<const std::string> keys) {
    return object_sizes(store_, keys);
  }
  [[nodiscard]] Result<std::vector<std::byte>> load(const std::string& key, std::uint64_t most) {
    touch(key);
    return load_object(store_, key, most);
  }
  [[nodiscard]] std::vector<std::string> dead_writes() { return krul::dead_writes(store_); }
  [[nodiscard]] std::vector<std::string> dead_writes(const std::string& folder) {
    return krul::dead_writes(store_, folder);
  }
  [[nodiscard]] Result<std::vector<std::string>> foreign_names(const std::string& folder) {
    return krul::foreign_names(store_, folder);
  }

  /// Counts all that is there anew. The first error, once all was tried; what could not be counted counts as before.
  [[nodiscard]] Status recount() {
    const auto folders = known_folders();
    if (!folders) return propagate(folders);
    Status first;
    for (const std::string& folder : *folders)
      if (Status status = recount(folder); !status && first) first = std::move(status);
    return first;
  }

  /// Bytes that count now, puts that are under way included.
  [[nodiscard]] std::uint64_t used() const {
    const std::lock_guard guard(state_->mutex);
    return state_->used;
  }
  /// Conversations that were erased to make room.
  [[nodiscard]] std::uint64_t evicted() const {
    const std::lock_guard guard(state_->mutex);
    return state_->evicted;
  }

 private:
  /// What a manifest says that matters here; nothing where there is none that can be used.
  struct Saved {
    std::size_t tokens = 0;
    std::uint64_t unix_s = 0;
  };
  struct Folder {
    FolderSizes sizes;
    std::uint64_t reserved = 0;        // for puts that are under way
    std::uint64_t changes = 0;         // number of the last change: a count that one overtook is wrong
    std::optional<TimePoint> used_at;  // through this store
    std::optional<Saved> saved;        // none: to be read
  };
  struct State {
    std::mutex mutex;  // of what follows, up to the next gap; never held over a call to the store
    std::map<std::string, Folder> folders;
    std::set<std::string> uncounted;  // folders of which something could not be counted
    std::uint64_t used = 0;
    std::uint64_t evicted = 0;
    std::uint64_t changes = 0;
    Folder& at(const std::string& folder) {
      const auto [place, is_new] = folders.try_emplace(folder);
      if (is_new) place->second.changes = ++changes;
      return place->second;
    }

    std::mutex evicting;  // one makes room at a time
    std::array<std::mutex, 16> writers;
    // Two writers of one object would not know whose stays.
    std::mutex& writing(const std::string& key) { return writers[std::hash<std::string>()(key) % writers.size()]; }
  };
  struct Candidate {
    std::string folder;
    bool lends = false;
    double worth = 0;
  };

  BoundedStore(Store store, StoreBounds bounds, Policy policy, C clock)
      : store_(std::move(store)),
        bounds_(bounds),
        policy_(std::move(policy)),
        clock_(std::move(clock)),
        opened_(clock_.now()),
        state_(std::make_shared<State>()) {}

  void touch(const std::string& key) {
    const std::lock_guard guard(state_->mutex);
    const auto at = state_->folders.find(key.substr(0, 32));
    if (at != state_->folders.end()) at->second.used_at = clock_.now();
  }

  /// Folders that are there, or were when they were counted; sorted.
  [[nodiscard]] Result<std::vector<std::string>> known_folders() {
    auto folders = store_.list("");
    if (!folders) return folders;
    {
      const std::lock_guard guard(state_->mutex);
      for (const auto& [folder, known] : state_->folders) folders->push_back(folder);
    }
    std::sort(folders->begin(), folders->end());
    folders->erase(std::unique(folders->begin(), folders->end()), folders->end());
    return folders;
  }

  [[nodiscard]] Status recount(const std::string& folder) {
    for (int attempt = 0; attempt < 3; ++attempt) {
      std::uint64_t changes = 0;
      {
        const std::lock_guard guard(state_->mutex);
        changes = state_->at(folder).changes;
      }
      auto sizes = FolderSizes::of(store_, folder);
      const Status counted = sizes ? sizes->counted() : Status(propagate(sizes));
      const std::lock_guard guard(state_->mutex);
      Folder& at = state_->at(folder);
      if (counted)
        state_->uncounted.erase(folder);
      else
        state_->uncounted.insert(folder);
      if (!sizes) return counted;
      if (at.changes != changes) continue;
      sizes->keep_untold(at.sizes);
      if (at.sizes.objects() != sizes->objects()) at.saved.reset();
      state_->used = state_->used - at.sizes.bytes() + sizes->bytes();
      at.sizes = std::move(*sizes);
      if (at.sizes.objects().empty() && at.reserved == 0) state_->folders.erase(folder);
      return counted;
    }
    return {};  // who writes there counts
  }

  /// Counts what could not be counted.
  void count_rest() {
    std::set<std::string> rest;
    {
      const std::lock_guard guard(state_->mutex);
      rest = state_->uncounted;
    }
    for (const std::string& folder : rest) static_cast<void>(recount(folder));
  }

  [[nodiscard]] Status reserve(const std::string& folder, std::uint64_t bytes) {
    count_rest();
    const auto no_room = [&](const std::string& why) {
      return fail(ErrorCode::no_space, "there is no room for " + std::to_string(bytes) + " bytes more: " + why +
                                           "; erase conversations or allow more");
    };
    for (bool recounted = false;;) {
      {
        const std::lock_guard guard(state_->mutex);
        Folder& at = state_->at(folder);
        const std::uint64_t own = at.sizes.bytes() + at.reserved;
        if (own > bounds_.conversation_bytes || bytes > bounds_.conversation_bytes - own)
          return no_room("a conversation may have " + std::to_string(bounds_.conversation_bytes));
        if (state_->used <= bounds_.bytes && bytes <= bounds_.bytes - state_->used) {
          state_->used += bytes;
          at.reserved += bytes;
          at.used_at = clock_.now();
          return {};
        }
      }
      const std::lock_guard one(state_->evicting);
      if (missing(bytes) == 0 || evict(folder, bytes)) continue;
      if (recounted) return no_room("the store may hold " + std::to_string(bounds_.bytes) + " and the rest is in use");
      recounted = true;
      static_cast<void>(recount());
    }
  }

  /// Bytes by which so many more would be too many.
  [[nodiscard]] std::uint64_t missing(std::uint64_t bytes) const {
    const std::lock_guard guard(state_->mutex);
    const std::uint64_t wanted = state_->used + bytes;
    return wanted - std::min(wanted, bounds_.bytes);
  }

  /// Erases conversations, or none, to make room for so many bytes. True if there may be room now.
  [[nodiscard]] bool evict(const std::string& own, std::uint64_t bytes) {
    Erasable erasable;
    std::map<std::string, Lock> victims;
    for (const Candidate& candidate : candidates(own)) {
      auto lock = store_.lock(candidate.folder);
      if (!lock) continue;
      if (candidate.lends) {
        give_back_all(store_, candidate.folder);
        static_cast<void>(recount(candidate.folder));
      }
      if (!erasable.add(store_, candidate.folder)) continue;
      victims.emplace(candidate.folder, std::move(*lock));
      if (erasable.bytes() >= missing(bytes)) break;
    }
    const std::uint64_t still = missing(bytes);
    if (still == 0 || erasable.bytes() < still) return still == 0;
    std::erase_if(victims, [&](const auto& victim) { return erasable.bytes(victim.first) == 0; });
    bool any = false;
    std::vector<std::pair<std::string, std::string>> loans;  // lender, fork
    for (const auto& [folder, lock] : victims) {
      const auto saved = load_manifest(store_, folder, ManifestCopies::first_valid);
      const Status erased = erase_conversation(store_, folder);
      static_cast<void>(recount(folder));
      if (saved && erased)
        for (const Borrowed& borrowed : borrowed_segments(saved->manifest)) loans.emplace_back(borrowed.folder, folder);
      const std::lock_guard guard(state_->mutex);
      state_->evicted += erased.has_value();
      any = any || erased;
      const auto at = state_->folders.find(folder);
      if (at != state_->folders.end()) at->second.saved.reset();
    }
    for (const auto& [lender, fork] : loans) {
      std::optional<Lock> lock;
      if (!victims.contains(lender)) {
        auto taken = store_.lock(lender);
        if (!taken) continue;
        lock.emplace(std::move(*taken));
      }
      give_back(store_, lender, fork);
      static_cast<void>(recount(lender));
    }
    return any;
  }

  /// All conversations but one, those of least worth first.
  [[nodiscard]] std::vector<Candidate> candidates(const std::string& own) {
    struct Known {
      std::string folder;
      std::uint64_t bytes;
      bool lends;
      std::optional<TimePoint> used_at;
      std::optional<Saved> saved;
      std::uint64_t changes;
    };
    const auto lends = [](const Folder& at) {
      return std::ranges::any_of(at.sizes.objects(),
                                 [](const auto& each) { return !fork_of_loan(each.first).empty(); });
    };
    std::vector<Known> all;
    {
      const std::lock_guard guard(state_->mutex);
      for (const auto& [folder, at] : state_->folders)
        if (folder != own && at.sizes.bytes() > 0)
          all.push_back({folder, at.sizes.bytes(), lends(at), at.used_at, at.saved, at.changes});
    }
    const TimePoint now = clock_.now();
    std::vector<Candidate> found;
    for (Known& known : all) {
      if (!known.saved) {
        const auto loaded = load_manifest(store_, known.folder, ManifestCopies::first_valid);
        // What a newer krul wrote, or cannot be read now, may be a conversation.
        if (!loaded && !means_damage(loaded.error().code)) continue;
        known.saved = loaded ? Saved{loaded->manifest.tokens.size(), loaded->manifest.saved_unix_s} : Saved();
        const std::lock_guard guard(state_->mutex);
        const auto at = state_->folders.find(known.folder);
        if (at != state_->folders.end() && at->second.changes == known.changes) at->second.saved = known.saved;
      }
      const std::uint64_t age_s = bounds_.unix_s - std::min(known.saved->unix_s, bounds_.unix_s);
      const Duration before = std::chrono::seconds(std::min<std::uint64_t>(age_s, 1'000'000'000));
      const Duration idle = known.used_at ? now - *known.used_at : now - opened_ + before;
      found.push_back(
          {known.folder, known.lends, policy_.worth({known.saved->tokens, known.bytes, std::max(idle, Duration())})});
    }
    std::stable_sort(found.begin(), found.end(),
                     [](const Candidate& a, const Candidate& b) { return a.worth < b.worth; });
    return found;
  }

  Store store_;
  StoreBounds bounds_;
  Policy policy_;
  C clock_;
  TimePoint opened_;
  std::shared_ptr<State> state_;
};
static_assert(ReadsTogether<BoundedStore<MemoryStore>> && SizesTogether<BoundedStore<MemoryStore>> &&
              LoadsWhole<BoundedStore<MemoryStore>> && TellsOtherNames<BoundedStore<MemoryStore>>);

}  // namespace krul
