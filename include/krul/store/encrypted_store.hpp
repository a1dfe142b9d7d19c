#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "krul/core/clock.hpp"
#include "krul/store/conversation_store.hpp"
#include "krul/store/memory_store.hpp"
#include "krul/store/object_sizes.hpp"
#include "krul/store/other_names.hpp"
#include "krul/store/page_cipher.hpp"
#include "krul/store/ranged_reads.hpp"
#include "krul/store/whole_object.hpp"

namespace krul {

/// A store whose objects are encrypted on their way into the store behind it. What was changed, exchanged, cut off or
/// encrypted with another key reads as corrupt: it is recomputed, and never taken for the conversation. Whoever writes
/// to the store behind it can still put back an earlier version of an object, or erase it.
///
/// Sizes are those of the plain objects. Not hidden are how many objects there are, their sizes, their names (a
/// segment's holds 32 bits of a checksum of its content), and folders: hashes of conversations' ids, so that who
/// guesses an id can tell whether it is there.
///
/// The first read of an object asks for its size. Needs krul::encrypted. Copies share what they hold.
template <ConversationStore Store, Clock C = SteadyClock>
class EncryptedStore {
 public:
  using Lock = typename Store::Lock;

  /// @return as PageCipher::make
  [[nodiscard]] static Result<EncryptedStore> make(Store store, EncryptionKeys keys, C clock = {}) {
    auto cipher = PageCipher::make(std::move(keys));
    if (!cipher) return propagate(cipher);
    return EncryptedStore(std::move(store), std::move(*cipher), std::move(clock));
  }

  [[nodiscard]] Status put(const std::string& key, std::span<const std::byte> bytes) {
    expects(is_store_key(key), "EncryptedStore::put: not a store key");
    lengths_->forget(key);
    return store_.put(key, cipher_.seal(key, bytes));
  }

  [[nodiscard]] Status get(const std::string& key, std::uint64_t offset, std::span<std::byte> to) {
    expects(is_store_key(key), "EncryptedStore::get: not a store key");
    const auto remembered = to.empty() ? std::nullopt : lengths_->find(key);
    std::uint64_t length = remembered.value_or(0);
    bool is_known = remembered.has_value();
    for (int attempt = 0;; ++attempt) {
      if (!is_known) {
        const auto size = this->size(key);
        if (!size) return propagate(size);
        // Read wrongly twice though nobody replaced it meanwhile by one of another length: it is damaged.
        const bool is_same = attempt > 0 && length == *size;
        length = *size;
        if (offset > length || to.size() > length - offset) return beyond_end(key, offset, to.size(), length);
        if (to.empty()) return {};
        if (is_same) attempt = attempts;
      }
      const Part part = part_of(offset, to.size(), length);
      Status status = part.bytes > 0 ? Status() : Status(beyond_end(key, offset, to.size(), length));
      if (status) {
        std::vector<std::byte> sealed(part.bytes);
        status = store_.get(key, part.offset, sealed);
        if (status) status = open_part(key, offset, to, length, sealed);
      }
      if (status) {
        lengths_->remember(key, length);
        return status;
      }
      lengths_->forget(key);
      if (attempt >= attempts || !may_be_replaced(status.error().code)) return status;
      is_known = false;
    }
  }

  [[nodiscard]] Result<std::uint64_t> size(const std::string& key) { return plain_size(key, store_.size(key)); }
  [[nodiscard]] Status erase(const std::string& key) {
    lengths_->forget(key);
    return store_.erase(key);
  }
  [[nodiscard]] Result<std::vector<std::string>> list(const std::string& folder) { return store_.list(folder); }
  [[nodiscard]] Result<Lock> lock(const std::string& folder) { return store_.lock(folder); }
  [[nodiscard]] StoreCapabilities capabilities() {
    StoreCapabilities found = store_.capabilities();
    if (found.largest > 0) found.largest = std::max<std::uint64_t>(PageLayout::largest_plain(found.largest), 1);
    return found;
  }

  /// Holds at most 32 MiB of what is encrypted at a time, or one read.
  void get_together(std::span<const RangedRead> reads, const RequestLimits& limits, const ReadEnd& ended) {
    for (const RangedRead& read : reads) expects(is_store_key(read.key), "EncryptedStore: not a store key");
    ask_lengths(reads, limits);
    std::vector<std::size_t> alone;  // to be read one by one: what is not as it was thought to be
    for (std::size_t next = 0; next < reads.size();) {
      std::vector<std::size_t> batch;
      std::vector<std::uint64_t> lengths;
      std::vector<std::vector<std::byte>> rooms;
      std::vector<RangedRead> inner;
      for (std::uint64_t bytes = 0; next < reads.size(); ++next) {
        const RangedRead& read = reads[next];
        const auto length = lengths_->find(read.key);
        const Part part = length ? part_of(read.offset, read.to.size(), *length) : Part();
        if (part.bytes == 0) {
          alone.push_back(next);
          continue;
        }
        if (!batch.empty() && part.bytes > most_together - std::min(bytes, most_together)) break;
        bytes += part.bytes;
        batch.push_back(next);
        lengths.push_back(*length);
        rooms.emplace_back(part.bytes);
        inner.push_back({read.key, part.offset, rooms.back()});
      }
      krul::get_together(
          store_, inner, limits,
          [&](std::size_t i, const Status& status) {
            const RangedRead& read = reads[batch[i]];
            Status end = status;
            if (end) end = open_part(read.key, read.offset, read.to, lengths[i], rooms[i]);
            if (!end && may_be_replaced(end.error().code)) {
              lengths_->forget(read.key);
              alone.push_back(batch[i]);
            } else {
              ended(batch[i], end);
            }
            std::vector<std::byte>().swap(rooms[i]);
          },
          clock_);
    }
    for (const std::size_t i : alone) {
      Status status = limits.check(clock_.now());
      if (status) status = get(reads[i].key, reads[i].offset, reads[i].to);
      ended(i, status);
    }
  }

  [[nodiscard]] std::vector<Result<std::uint64_t>> sizes(std::span<const std::string> keys) {
    auto found = object_sizes(store_, keys);
    for (std::size_t i = 0; i < found.size(); ++i) found[i] = plain_size(keys[i], found[i]);
    return found;
  }

  [[nodiscard]] Result<std::vector<std::byte>> load(const std::string& key, std::uint64_t most) {
    expects(is_store_key(key), "EncryptedStore::load: not a store key");
    std::size_t before = 0;
    for (int attempt = 0;; ++attempt) {
      const auto sealed = load_object(store_, key, PageLayout::sealed_bytes(most));
      if (!sealed) {
        if (sealed.error().code == ErrorCode::too_large) return larger_than(most, key);
        if (sealed.error().code == ErrorCode::truncated && attempt < attempts) continue;
        return propagate(sealed);
      }
      const auto length = plain_size(key, sealed->size());
      if (!length) return propagate(length);
      std::vector<std::byte> bytes(static_cast<std::size_t>(*length));
      const Status status = open_part(key, 0, bytes, *length, *sealed);
      if (status) {
        lengths_->remember(key, *length);
        return bytes;
      }
      if (attempt >= attempts || before == sealed->size()) return propagate(status);
      before = sealed->size();
    }
  }

  [[nodiscard]] std::vector<std::string> dead_writes() { return krul::dead_writes(store_); }
  [[nodiscard]] std::vector<std::string> dead_writes(const std::string& folder) {
    return krul::dead_writes(store_, folder);
  }
  [[nodiscard]] Result<std::vector<std::string>> foreign_names(const std::string& folder) {
    return krul::foreign_names(store_, folder);
  }

 private:
  static constexpr int attempts = 8;  // at an object that others keep replacing
  static constexpr std::uint64_t most_together = 32 << 20;

  /// Where the pages lie that some bytes are in; 0 bytes if there are no such bytes.
  struct Part {
    std::uint64_t offset = 0;
    std::size_t bytes = 0;
  };

  /// Lengths of objects that were read. They are guesses: what turns out to be wrong is forgotten and asked again.
  class Lengths {
   public:
    [[nodiscard]] std::optional<std::uint64_t> find(const std::string& key) const {
      const std::lock_guard guard(mutex_);
      const auto found = lengths_.find(key);
      return found == lengths_.end() ? std::nullopt : std::optional(found->second);
    }
    void remember(const std::string& key, std::uint64_t length) {
      const std::lock_guard guard(mutex_);
      if (lengths_.size() >= most) lengths_.clear();
      lengths_[key] = length;
    }
    void forget(const std::string& key) {
      const std::lock_guard guard(mutex_);
      lengths_.erase(key);
    }

   private:
    static constexpr std::size_t most = 4096;
    mutable std::mutex mutex_;
    std::unordered_map<std::string, std::uint64_t> lengths_;
  };

  EncryptedStore(Store store, PageCipher cipher, C clock)
      : store_(std::move(store)),
        cipher_(std::move(cipher)),
        clock_(std::move(clock)),
        lengths_(std::make_shared<Lengths>()) {}

  [[nodiscard]] static bool may_be_replaced(ErrorCode code) noexcept {
    return code == ErrorCode::corrupt || code == ErrorCode::truncated;
  }

  [[nodiscard]] static tl::unexpected<Error> beyond_end(const std::string& key, std::uint64_t offset, std::size_t count,
                                                        std::uint64_t length) {
    return fail(ErrorCode::truncated, "object " + key + " has " + std::to_string(length) + " bytes, " +
                                          std::to_string(count) + " from " + std::to_string(offset) +
                                          " on were wanted; recompute what they held");
  }

  [[nodiscard]] static Result<std::uint64_t> plain_size(const std::string& key, const Result<std::uint64_t>& sealed) {
    if (!sealed) return sealed;
    if (const auto plain = PageLayout::plain_bytes(*sealed)) return *plain;
    return fail(ErrorCode::corrupt, "object " + key + " has " + std::to_string(*sealed) +
                                        " bytes, which no encrypted object has; recompute what it held");
  }

  [[nodiscard]] static Part part_of(std::uint64_t offset, std::size_t count, std::uint64_t length) noexcept {
    if (count == 0 || offset > length || count > length - offset) return {};
    const std::uint64_t first = offset / PageLayout::page, last = (offset + count - 1) / PageLayout::page;
    const std::uint64_t begin = first * (PageLayout::page + PageLayout::extra);
    const std::uint64_t end =
        std::min((last + 1) * (PageLayout::page + PageLayout::extra), PageLayout::sealed_bytes(length));
    return {begin, static_cast<std::size_t>(end - begin)};
  }

  /// Decrypts what part_of told to read.
  [[nodiscard]] Status open_part(const std::string& key, std::uint64_t offset, std::span<std::byte> to,
                                 std::uint64_t length, std::span<const std::byte> sealed) const {
    std::optional<OpenedPage> object;
    std::vector<std::byte> room;
    std::uint64_t index = offset / PageLayout::page;
    do {
      const auto page = sealed.first(std::min<std::size_t>(sealed.size(), PageLayout::page + PageLayout::extra));
      sealed = sealed.subspan(page.size());
      // A page that is wanted whole goes straight where it is wanted.
      const std::uint64_t begin = index * PageLayout::page;
      const std::size_t bytes = page.size() - PageLayout::extra;
      const std::size_t skipped = offset > begin ? static_cast<std::size_t>(offset - begin) : 0;
      const std::size_t wanted = std::min(bytes - skipped, to.size());
      if (wanted < bytes) room.resize(bytes);
      const auto opened = cipher_.open(key, index, page, wanted < bytes ? std::span(room) : to.first(bytes));
      if (!opened) return propagate(opened);
      if (opened->object_bytes != length || (object && object != *opened))
        return fail(ErrorCode::corrupt, "object " + key + " is cut off, or mixed of two; recompute what it held");
      object = *opened;
      if (wanted < bytes) std::copy_n(room.begin() + static_cast<std::ptrdiff_t>(skipped), wanted, to.begin());
      to = to.subspan(wanted);
      ++index;
    } while (!sealed.empty());
    return {};
  }

  /// Asks for the lengths that are not known yet, all at once.
  void ask_lengths(std::span<const RangedRead> reads, const RequestLimits& limits) {
    std::vector<std::string> keys;
    for (const RangedRead& read : reads)
      if (!read.to.empty() && !lengths_->find(read.key)) keys.push_back(read.key);
    std::sort(keys.begin(), keys.end());
    keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
    if (keys.empty() || !limits.check(clock_.now())) return;
    const auto found = sizes(keys);
    for (std::size_t i = 0; i < keys.size(); ++i)
      if (found[i]) lengths_->remember(keys[i], *found[i]);
  }

  Store store_;
  PageCipher cipher_;
  C clock_;
  std::shared_ptr<Lengths> lengths_;
};
static_assert(ReadsTogether<EncryptedStore<MemoryStore>> && SizesTogether<EncryptedStore<MemoryStore>> &&
              LoadsWhole<EncryptedStore<MemoryStore>> && TellsOtherNames<EncryptedStore<MemoryStore>>);

}  // namespace krul
