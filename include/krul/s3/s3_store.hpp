#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "krul/core/clock.hpp"
#include "krul/store/conversation_store.hpp"
#include "krul/store/object_sizes.hpp"
#include "krul/store/ranged_reads.hpp"
#include "krul/store/whole_object.hpp"

namespace krul {

/// How often, and for how long, what failed for a reason that passes is tried again: lost connections, 429, 500, 502,
/// 503, 504. The n-th wait is uniform between nothing and min(longest_wait, first_wait * 2^n).
struct S3Retries {
  unsigned most = 6;  ///< after the first attempt
  Duration first_wait = std::chrono::milliseconds(100);
  Duration longest_wait = std::chrono::seconds(5);
  Duration in_all = std::chrono::seconds(60);  ///< after it no further attempt begins
};

/// Where an S3Store takes time and chance from; tests pass their own.
struct S3Sources {
  std::function<TimePoint()> now = [] { return SteadyClock{}.now(); };
  std::function<void(TimePoint)> sleep_until = [](TimePoint moment) { SteadyClock{}.sleep_until(moment); };
  std::function<double()> random = {};  ///< uniform in [0, 1); none: std::random_device
};

/// Which bucket, with what rights, and how it is talked to.
struct S3StoreOptions {
  std::string endpoint = {};  ///< "https://host[:port]"; empty: Amazon's for the region
  std::string region = "us-east-1";
  std::string bucket = {};
  std::string prefix = {};      ///< of all keys, of [A-Za-z0-9._/-]; no / at its ends
  std::string access_key = {};  ///< empty: requests are not signed
  std::string secret_key = {};
  std::string session_token = {};  ///< of temporary credentials
  std::string ca_file = {};        ///< PEM certificates that the server's is checked with; empty: the system's
  bool path_style = false;         ///< endpoint/bucket/key instead of bucket.endpoint/key
  unsigned connections = 8;        ///< at once, for each thread that calls
  Duration connect_timeout = std::chrono::seconds(5);
  Duration idle_timeout = std::chrono::seconds(15);   ///< a request during which nothing moves so long has failed
  std::uint64_t part_bytes = 16ULL << 20;             ///< of a multipart upload, 5 MiB at least
  std::uint64_t multipart_above = 64ULL << 20;        ///< bytes of the largest object that one request uploads
  std::uint64_t read_bytes = 8ULL << 20;              ///< neighbouring reads become one request up to this size
  Duration lock_lifetime = std::chrono::seconds(60);  ///< after it a writer that has died holds a folder no longer
  bool conditional_writes = true;                     ///< false: see S3Store::lock
  S3Retries retries = {};
  S3Sources sources = {};
};

/// A bucket of S3 or of what speaks its protocol. Part of krul::s3, which is always there: built without libcurl, open
/// says so. The object PREFIX/FOLDER/OBJECT holds what put was given; PREFIX/.locks/FOLDER is a folder's lock.
///
/// Requests are made by the calling thread, several at once where that helps. docs/stores.md says what they cost and
/// what a bucket has to be configured for. Copies share their connections and locks.
///
/// What calls return beside what the concept says: io if the server refuses or cannot be reached, deadline if it does
/// not answer in time, no_space if a quota is reached.
class S3Store {
  struct State;

 public:
  /// The right to write one folder: an object in the bucket, which runs out unless it is renewed. put and erase renew
  /// it when a third of its lifetime is over. While it lives, a manifest is only replaced if it is still the one that
  /// this store saw last. Both fail with busy once another writer has taken over. Gives the folder back when it dies,
  /// which takes a request.
  class Lock {
   public:
    Lock(Lock&& other) noexcept;
    Lock& operator=(Lock&&) = delete;
    ~Lock();

   private:
    friend S3Store;
    Lock(std::shared_ptr<State> state, std::string folder);
    std::shared_ptr<State> state_;
    std::string folder_;
  };

  /// Opens a store and asks the bucket once whether it may be listed.
  /// @return invalid_argument for options that cannot be meant, or the wrong region; io if the bucket is not there or
  ///         refuses; unsupported, naming the package and KRUL_WITH_S3, if krul was built without libcurl
  [[nodiscard]] static Result<S3Store> open(S3StoreOptions options);

  /// Replaces the object in one step, also if it goes up in parts.
  [[nodiscard]] Status put(const std::string& key, std::span<const std::byte> bytes);
  [[nodiscard]] Status get(const std::string& key, std::uint64_t offset, std::span<std::byte> to);
  [[nodiscard]] Result<std::uint64_t> size(const std::string& key);
  [[nodiscard]] Status erase(const std::string& key);
  [[nodiscard]] Result<std::vector<std::string>> list(const std::string& folder);
  /// The first call asks the server, on a small object of its own, whether it heeds If-Match and If-None-Match; fails
  /// with unsupported if it does not. With conditional_writes = false nothing is asked and nothing is conditional: two
  /// writers that begin within the same moment may then both believe to be alone, and one replaces what the other
  /// saved.
  [[nodiscard]] Result<Lock> lock(const std::string& folder);
  [[nodiscard]] StoreCapabilities capabilities() const noexcept {
    return {.durable = true, .shared = true, .distant = true, .largest = 5ULL << 40};
  }

  /// Reads that follow each other in `reads` and touch become one request.
  void get_together(std::span<const RangedRead> reads, const RequestLimits& limits, const ReadEnd& ended);
  /// One listing for each folder of which more than two sizes are asked for.
  [[nodiscard]] std::vector<Result<std::uint64_t>> sizes(std::span<const std::string> keys);
  [[nodiscard]] Result<std::vector<std::byte>> load(const std::string& key, std::uint64_t most);

 private:
  explicit S3Store(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};
static_assert(ConversationStore<S3Store> && ReadsTogether<S3Store> && SizesTogether<S3Store> && LoadsWhole<S3Store>);

}  // namespace krul
