#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "exchange.hpp"
#include "folder_keys.hpp"
#include "krul/core/error.hpp"
#include "nodes.hpp"

namespace krul::redis {

/// How long a lock's key outlives the lock.
inline constexpr auto lock_memory = std::chrono::hours(24);

[[nodiscard]] inline std::string folder_of(const std::string& key) {
  return key.substr(0, 32);
}
[[nodiscard]] inline std::string object_of(const std::string& key) {
  return key.substr(33);
}
[[nodiscard]] tl::unexpected<Error> strange_reply(const std::string& about);
[[nodiscard]] tl::unexpected<Error> lock_lost(const std::string& folder);

/// Versions of objects as they were last seen. A version's parts never change: one that is old is noticed, since its
/// parts are gone.
class KnownVersions {
 public:
  [[nodiscard]] std::optional<Version> find(const std::string& key) {
    const std::lock_guard guard(mutex_);
    const auto found = versions_.find(key);
    return found == versions_.end() ? std::nullopt : std::optional(found->second);
  }
  void enter(const std::string& key, const Version& version) {
    const std::lock_guard guard(mutex_);
    if (versions_.size() >= most) versions_.clear();
    versions_.insert_or_assign(key, version);
  }
  void forget(const std::string& key) {
    const std::lock_guard guard(mutex_);
    versions_.erase(key);
  }

 private:
  static constexpr std::size_t most = 4096;
  std::mutex mutex_;
  std::unordered_map<std::string, Version> versions_;
};

/// The locks that a store has.
class HeldLocks {
 public:
  [[nodiscard]] bool is_held(const std::string& folder) {
    const std::lock_guard guard(mutex_);
    const auto found = held_.find(folder);
    return found != held_.end() && !found->second.is_lost;
  }
  void enter(const std::string& folder, const std::string& token) {
    const std::lock_guard guard(mutex_);
    held_.insert_or_assign(folder, Held{token});
  }
  /// @return the token of a folder's lock, or "" if this store has none; busy if it is lost
  [[nodiscard]] Result<std::string> token(const std::string& folder) {
    const std::lock_guard guard(mutex_);
    const auto found = held_.find(folder);
    if (found == held_.end()) return std::string();
    if (found->second.is_lost) return lock_lost(folder);
    return found->second.token;
  }
  void lose(const std::string& folder, const std::string& token) {
    const std::lock_guard guard(mutex_);
    const auto found = held_.find(folder);
    if (found != held_.end() && found->second.token == token) found->second.is_lost = true;
  }
  void leave(const std::string& folder, const std::string& token) {
    const std::lock_guard guard(mutex_);
    const auto found = held_.find(folder);
    if (found != held_.end() && found->second.token == token) held_.erase(found);
  }

 private:
  struct Held {
    std::string token;
    bool is_lost = false;
  };
  std::mutex mutex_;
  std::map<std::string, Held> held_;
};

/// What the calls of a store have in common.
struct Client {
  explicit Client(const RedisStoreOptions& chosen) : options(chosen), nodes(options) {}

  [[nodiscard]] FolderKeys keys(const std::string& folder) const { return {options.prefix, folder}; }
  [[nodiscard]] Request request(const std::string& folder, std::vector<std::string> words) const {
    return {.command = {.words = std::move(words)}, .slot = slot_of(folder)};
  }
  void run(std::span<Request> requests, const RequestLimits& limits = {}, const RequestEnd& ended = {}) {
    exchange(nodes, options, requests, limits, ended);
  }
  [[nodiscard]] Request ask_for_version(const std::string& key) const {
    return request(folder_of(key), {"HGET", keys(folder_of(key)).objects(), object_of(key)});
  }
  [[nodiscard]] static Result<Version> version_in(const Request& asked, const std::string& key);
  [[nodiscard]] Result<Version> version(const std::string& key);
  [[nodiscard]] Result<long long> run_script(const std::string& folder, std::vector<std::string> words);
  /// Runs publish_script or erase_script; `more` is ARGV from [5] on.
  /// @return busy if this store had the folder's lock and lost it
  [[nodiscard]] Status write(const std::string& key, const char* script, std::vector<std::string> more);
  [[nodiscard]] Status write_parts(const std::string& folder, const Version& version, std::span<const std::byte> bytes);
  void discard(const std::string& folder, const Version& version);

  RedisStoreOptions options;
  Nodes nodes;
  KnownVersions versions;
  HeldLocks locks;
};

}  // namespace krul::redis
