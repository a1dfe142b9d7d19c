#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <set>
#include <shared_mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/store/conversation_store.hpp"

namespace krul {

/// A store in memory, for tests and as the tier above a slower one. Copies share their content.
class MemoryStore {
  struct Content;

 public:
  /// The right to write one folder; gives it back when it dies.
  class Lock {
   public:
    Lock(Lock&&) noexcept = default;
    Lock& operator=(Lock&&) = delete;
    ~Lock() {
      if (!content_) return;
      const std::lock_guard guard(content_->mutex);
      content_->locked.erase(folder_);
    }

   private:
    friend MemoryStore;
    Lock(std::shared_ptr<Content> content, std::string folder)
        : content_(std::move(content)), folder_(std::move(folder)) {}
    std::shared_ptr<Content> content_;
    std::string folder_;
  };

  /// @param largest_total  bytes of objects that are held at any moment, both versions of one that is being replaced
  ///                       included; put fails with no_space beyond them. 0: no cap
  explicit MemoryStore(std::uint64_t largest_total = 0) : content_(std::make_shared<Content>()) {
    content_->cap = largest_total;
  }

  [[nodiscard]] Status put(const std::string& key, std::span<const std::byte> bytes) {
    expects(is_store_key(key), "MemoryStore::put: not a store key");
    Reservation reservation(*content_, bytes.size());
    if (!reservation.granted())
      return fail(ErrorCode::no_space, "the memory store may hold " + std::to_string(content_->cap) +
                                           " bytes and has no room for " + std::to_string(bytes.size()) +
                                           " more; erase a conversation or raise its cap");
    try {
      std::vector<std::byte> object(bytes.begin(), bytes.end());
      std::string name = key;
      const std::lock_guard guard(content_->mutex);
      const auto slot = content_->objects.try_emplace(std::move(name)).first;
      slot->second.swap(object);
      reservation.keep_but(object.size());
      std::vector<std::byte>().swap(object);
    } catch (const std::bad_alloc&) {
      return fail(ErrorCode::no_space, "the machine has no memory left for an object of " +
                                           std::to_string(bytes.size()) + " bytes; erase a conversation");
    }
    return {};
  }

  [[nodiscard]] Status get(const std::string& key, std::uint64_t offset, std::span<std::byte> to) {
    expects(is_store_key(key), "MemoryStore::get: not a store key");
    const std::shared_lock guard(content_->mutex);
    const auto found = content_->objects.find(key);
    if (found == content_->objects.end()) return not_found(key);
    const std::vector<std::byte>& object = found->second;
    if (offset > object.size() || to.size() > object.size() - offset)
      return fail(ErrorCode::truncated, "object " + key + " has " + std::to_string(object.size()) + " bytes, " +
                                            std::to_string(to.size()) + " from " + std::to_string(offset) +
                                            " on were wanted; recompute what they held");
    std::copy_n(object.begin() + static_cast<std::ptrdiff_t>(offset), to.size(), to.begin());
    return {};
  }

  [[nodiscard]] Result<std::uint64_t> size(const std::string& key) {
    expects(is_store_key(key), "MemoryStore::size: not a store key");
    const std::shared_lock guard(content_->mutex);
    const auto found = content_->objects.find(key);
    if (found == content_->objects.end()) return not_found(key);
    return found->second.size();
  }

  [[nodiscard]] Status erase(const std::string& key) {
    expects(is_store_key(key), "MemoryStore::erase: not a store key");
    const std::lock_guard guard(content_->mutex);
    const auto found = content_->objects.find(key);
    if (found == content_->objects.end()) return {};
    content_->used -= found->second.size();
    content_->objects.erase(found);
    return {};
  }

  [[nodiscard]] Result<std::vector<std::string>> list(const std::string& folder) {
    expects(folder.empty() || is_store_folder(folder), "MemoryStore::list: not a folder");
    const std::shared_lock guard(content_->mutex);
    std::vector<std::string> names;
    for (auto at = content_->objects.lower_bound(folder); at != content_->objects.end(); ++at) {
      const std::string& key = at->first;
      if (!folder.empty() && !key.starts_with(folder)) break;
      std::string name = folder.empty() ? key.substr(0, 32) : key.substr(33);
      if (names.empty() || names.back() != name) names.push_back(std::move(name));
    }
    return names;
  }

  [[nodiscard]] Result<Lock> lock(const std::string& folder) {
    expects(is_store_folder(folder), "MemoryStore::lock: not a folder");
    const std::lock_guard guard(content_->mutex);
    if (!content_->locked.insert(folder).second)
      return fail(ErrorCode::busy,
                  "another writer holds conversation folder " + folder +
                      "; try again when it is done; where it is a Conversation of this process, destroy that first");
    return Lock(content_, folder);
  }

  [[nodiscard]] StoreCapabilities capabilities() const noexcept { return {}; }

  /// Bytes of objects that are held now.
  [[nodiscard]] std::uint64_t used() const {
    const std::shared_lock guard(content_->mutex);
    return content_->used;
  }

 private:
  struct Content {
    std::shared_mutex mutex;
    std::map<std::string, std::vector<std::byte>> objects;
    std::set<std::string> locked;
    std::uint64_t used = 0;
    std::uint64_t cap = 0;
  };

  // Bytes are counted before they are allocated, and given back if the put does not come to its end.
  class Reservation {
   public:
    Reservation(Content& content, std::uint64_t bytes) : content_(content), bytes_(bytes) {
      const std::lock_guard guard(content_.mutex);
      granted_ = content_.cap == 0 || (content_.used <= content_.cap && bytes <= content_.cap - content_.used);
      if (granted_) content_.used += bytes_;
    }
    Reservation(const Reservation&) = delete;
    Reservation& operator=(const Reservation&) = delete;
    ~Reservation() {
      if (!granted_ || kept_) return;
      const std::lock_guard guard(content_.mutex);
      content_.used -= bytes_;
    }
    [[nodiscard]] bool granted() const noexcept { return granted_; }
    // The caller holds the mutex, and frees `replaced` bytes of the old object.
    void keep_but(std::uint64_t replaced) noexcept {
      content_.used -= replaced;
      kept_ = true;
    }

   private:
    Content& content_;
    std::uint64_t bytes_;
    bool granted_ = false;
    bool kept_ = false;
  };

  static tl::unexpected<Error> not_found(const std::string& key) {
    return fail(ErrorCode::not_found, "there is no object " + key + "; recompute what it held");
  }

  std::shared_ptr<Content> content_;
};
static_assert(ConversationStore<MemoryStore>);

}  // namespace krul
