#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/redis/redis_options.hpp"
#include "krul/store/conversation_store.hpp"
#include "krul/store/object_sizes.hpp"
#include "krul/store/ranged_reads.hpp"
#include "krul/store/whole_object.hpp"

namespace krul {

/// Objects on a Redis server or cluster, or on anything that speaks its protocol and runs its scripts.
///
/// All keys of a folder have it as their hash tag, so that a cluster keeps a conversation on one node:
///
///   PREFIX:{FOLDER}:objects          hash, object name -> "size part-size version": the folder's index
///   PREFIX:{FOLDER}:part:VERSION:I   the object's bytes [I * part-size, (I + 1) * part-size)
///   PREFIX:{FOLDER}:lock             who may write
///
/// put writes the parts of a new version, which nobody knows yet and which expire within an hour. One script then makes
/// them last, enters the version into the index and deletes the parts of the old one. Parts never change, so what a
/// read finds under one version is whole, whoever writes meanwhile. What the server evicted or let expire is not_found.
///
/// No thread of its own: callers' threads share at most `connections` to each server. A connection that broke is
/// replaced and what was asked is asked once more; then the error is io, and deadline if the server stayed silent.
/// Copies share the connections and the locks. Deadlines are SteadyClock's.
/// How long what is saved lasts is the server's business: with `appendfsync always` it survives a loss of power.
class RedisStore {
  struct State;

 public:
  /// The right to write one folder. put and erase check it in the script that writes, and renew it. Once nothing was
  /// written for lock_time, somebody else may take it; whoever lost it so is told busy and changes nothing. If nobody
  /// took it within a day it still holds.
  class Lock {
   public:
    Lock(Lock&&) noexcept = default;
    Lock& operator=(Lock&&) = delete;
    ~Lock();  ///< asks the server to give it back: waits for request_timeout at most

   private:
    friend RedisStore;
    Lock(std::shared_ptr<State> state, std::string folder, std::string token);
    std::shared_ptr<State> state_;
    std::string folder_;
    std::string token_;
  };

  /// Connects, and asks whether the server is a cluster's.
  /// @return invalid_argument if options.check() says so, or for a user, password or database that the server refuses;
  ///         io if it cannot be reached, deadline if it is silent; unsupported, naming the package and the CMake
  ///         option, if krul was built without hiredis
  [[nodiscard]] static Result<RedisStore> open(const RedisStoreOptions& options);

  /// @return no_space if the server has no memory for it; too_large beyond capabilities().largest; busy if this store
  ///         had a Lock on the folder and lost it; io; deadline. The old object is there then
  [[nodiscard]] Status put(const std::string& key, std::span<const std::byte> bytes);
  /// @return not_found if there is no object, or a part of it is gone; truncated; io; deadline; corrupt if the index is
  ///         not of this library
  [[nodiscard]] Status get(const std::string& key, std::uint64_t offset, std::span<std::byte> to);
  [[nodiscard]] Result<std::uint64_t> size(const std::string& key);
  [[nodiscard]] Status erase(const std::string& key);
  /// list("") goes through all keys of all servers: for tools, not for a restore.
  [[nodiscard]] Result<std::vector<std::string>> list(const std::string& folder);
  [[nodiscard]] Result<Lock> lock(const std::string& folder);
  [[nodiscard]] StoreCapabilities capabilities() const;

  /// In two round trips, one where the objects' versions are known, over several connections.
  void get_together(std::span<const RangedRead> reads, const RequestLimits& limits, const ReadEnd& ended);
  /// In one round trip.
  [[nodiscard]] std::vector<Result<std::uint64_t>> sizes(std::span<const std::string> keys);
  [[nodiscard]] Result<std::vector<std::byte>> load(const std::string& key, std::uint64_t most);

 private:
  explicit RedisStore(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};
static_assert(ReadsTogether<RedisStore> && SizesTogether<RedisStore> && LoadsWhole<RedisStore>);

}  // namespace krul
